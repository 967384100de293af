import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { CSSStyleRule, type Element, type HTMLSelectElement, type HTMLTextAreaElement, Window } from "happy-dom";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";

/*
 * The studio's page in a DOM without a browser: what it renders and keeps. How it looks is for `test:browser`.
 */

const source = fileURLToPath(new URL("../../../src/page", import.meta.url));

interface PageModule {
  render(tree: null, root: Element): void;
}

let loads = 0;

/** Bundles the page, once for a file of tests. */
export async function bundlePage(): Promise<string> {
  const folder = await temporaryFolder();
  const outfile = join(folder, "page.mjs");
  await build({
    stdin: { contents: 'import "./studio.tsx"; export { render } from "preact";', resolveDir: source },
    outfile,
    bundle: true,
    format: "esm",
    target: "node20",
    jsx: "automatic",
    jsxImportSource: "preact",
    logLevel: "warning",
  });
  return outfile;
}

/** A page that is open. */
export interface OpenPage {
  readonly window: Window;
  /** The first element for a selector. @throws Error without one. */
  find(selector: string): Element;
  all(selector: string): readonly Element[];
  /** Texts of the style sheet's rules that select an element. */
  rulesOf(element: Element): readonly string[];
  /** Resolves when the condition holds; the time limit of the test ends it otherwise. */
  until(condition: () => boolean): Promise<void>;
  /** Types into a field by its id. */
  type(id: string, text: string): void;
  /** Chooses an option of a list by the list's id and the option's value. */
  choose(id: string, value: string): void;
  click(selector: string): void;
  /** Whether there is a button with this text. */
  hasButton(text: string): boolean;
  /** Clicks the button with this text. @throws Error without one. */
  clickButton(text: string): void;
  /** What the tab's storage holds: a page that is opened with it is the same tab after a reload. */
  storage(): Readonly<Record<string, string>>;
  close(): Promise<void>;
}

/** Opens the bundled page of a server. One page at a time: the page's globals are this process's. */
export async function openPage(
  bundle: string,
  url: string,
  storage: Readonly<Record<string, string>> = {},
): Promise<OpenPage> {
  const window = new Window({ url, width: 1440, height: 900 });
  const { document } = window;
  document.body.innerHTML = '<div id="studio"></div>';
  for (const [name, value] of Object.entries(storage)) {
    window.sessionStorage.setItem(name, value);
  }
  const style = document.createElement("style");
  style.textContent = await readFile(join(source, "styles/image.css"), "utf8");
  document.head.append(style);
  for (const [name, value] of Object.entries(globalsOf(window))) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const page: PageModule = await import(`${pathToFileURL(bundle)}?${loads++}`);
  const find = (selector: string): Element => {
    const element = document.querySelector(selector);
    if (element === null) {
      throw new Error(`the page has no ${selector}`);
    }
    return element;
  };
  const buttonOf = (text: string) =>
    [...document.querySelectorAll("button")].find(({ textContent }) => textContent === text);
  const click = (element: Element) =>
    void element.dispatchEvent(new window.MouseEvent("click", { bubbles: true, cancelable: true }));
  return {
    window,
    find,
    all: (selector) => [...document.querySelectorAll(selector)],
    rulesOf: (element) =>
      [...document.styleSheets].flatMap(({ cssRules }) =>
        [...cssRules]
          .filter((rule) => rule instanceof CSSStyleRule && element.matches(rule.selectorText))
          .map(({ cssText }) => cssText),
      ),
    async until(condition) {
      while (!condition()) {
        await nextTurn();
      }
    },
    type(id, text) {
      // Each field of the form that is typed into has a value.
      const field = find(`#${id}`) as HTMLTextAreaElement;
      field.value = text;
      field.dispatchEvent(new window.Event("input", { bubbles: true }));
    },
    choose(id, value) {
      const list = find(`#${id}`) as HTMLSelectElement;
      list.value = value;
      list.dispatchEvent(new window.Event("change", { bubbles: true }));
    },
    click: (selector) => click(find(selector)),
    hasButton: (text) => buttonOf(text) !== undefined,
    clickButton(text) {
      const button = buttonOf(text);
      if (button === undefined) {
        throw new Error(`the page has no button "${text}"`);
      }
      click(button);
    },
    storage: () =>
      Object.fromEntries(
        Array.from({ length: window.sessionStorage.length }, (_, index) => {
          const name = window.sessionStorage.key(index) ?? "";
          return [name, window.sessionStorage.getItem(name) ?? ""];
        }),
      ),
    async close() {
      Object.defineProperty(document, "hidden", { value: true });
      document.dispatchEvent(new window.Event("visibilitychange"));
      page.render(null, find("#studio"));
      await window.happyDOM.close();
    },
  };
}

/** What the page takes from a browser, besides what Node has. */
function globalsOf(window: Window) {
  const { document, location, navigator, localStorage, sessionStorage } = window;
  return {
    window,
    document,
    location,
    navigator,
    localStorage,
    sessionStorage,
    innerHeight: window.innerHeight,
    matchMedia: window.matchMedia.bind(window),
    addEventListener: window.addEventListener.bind(window),
    removeEventListener: window.removeEventListener.bind(window),
    requestAnimationFrame: window.requestAnimationFrame.bind(window),
    cancelAnimationFrame: window.cancelAnimationFrame.bind(window),
    ResizeObserver: window.ResizeObserver,
    // A browser that keeps nothing, as in a private window.
    indexedDB: {
      open() {
        const request = { onerror() {}, error: new Error("not in a private window") };
        queueMicrotask(() => request.onerror());
        return request;
      },
    },
  };
}
