import { signal as createSignal, effect, type ReadonlySignal, type Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { UserError } from "../request/user-error.js";
import type { Connection, ConnectionState } from "../service/connection.js";
import { roughDuration } from "./format.js";
import { useNow } from "./hooks.js";
import type { Studio } from "./studio.js";

/** The page's header: name, connection, theme. */
export function Header({ connection, theme }: { connection: Connection; theme: Signal<Theme> }) {
  return (
    <header class="top">
      <h1>
        <svg class="brand" viewBox="0 0 24 24" aria-hidden="true">
          <path d="M3 6h11M7 12h14M7 18h8" />
        </svg>
        Throughline <span class="light wide-only">studio</span>
      </h1>
      <ConnectionMessage connection={connection} />
      <button
        type="button"
        class="quiet"
        aria-label={`Theme: ${theme.value}`}
        onClick={() => {
          theme.value = nextTheme(theme.value);
        }}
      >
        <span class="wide-only">Theme: </span>
        {theme.value}
      </button>
    </header>
  );
}

const labels: Readonly<Record<ConnectionState["kind"], string>> = {
  connecting: "Connecting",
  live: "Connected",
  lost: "Connection lost",
  locked: "Key needed",
};

function ConnectionMessage({ connection }: { connection: Connection }) {
  const state = connection.state.value;
  const { kind } = state;
  return (
    <p class={`connection is-${kind}`} role="status">
      <span class="dot" aria-hidden="true" />{" "}
      {state.kind === "lost" && state.part === "collector" ? "Collector away" : labels[kind]}
    </p>
  );
}

/** A banner while the service or its collector does not answer. */
export function ConnectionBanner({ connection }: { connection: Connection }) {
  const state = connection.state.value;
  const now = useNow(state.kind === "lost", 500);
  if (state.kind !== "lost") {
    return null;
  }
  const seconds = Math.max(0, Math.ceil((state.retryAtMs - now) / 1000));
  return (
    <section class="notice is-warning" aria-label="Connection">
      <div>
        <strong role="alert">{state.problem.title}.</strong> <Advice text={state.problem.advice} />{" "}
        <span class="muted">Next try {seconds === 0 ? "now" : `in ${seconds} s`}.</span>
      </div>
      <button type="button" onClick={connection.retry}>
        Try now
      </button>
    </section>
  );
}

/** A sentence; text between backquotes is code. */
export function Advice({ text }: { text: string }) {
  return <>{text.split("`").map((part, index) => (index % 2 === 1 ? <code key={part}>{part}</code> : part))}</>;
}

/** Asks for an API key if the service needs one. */
export function KeyForm({ studio, callerKey }: { studio: Studio; callerKey: CallerKey }) {
  const input = useRef<HTMLInputElement>(null);
  const wanted = studio.needsKey.value;
  useEffect(() => {
    if (wanted) {
      input.current?.focus();
    }
  }, [wanted]);
  if (!wanted) {
    return null;
  }
  const rejected = callerKey.current.value !== undefined;
  return (
    <form
      class="notice is-warning key"
      aria-label="Key"
      onSubmit={(event) => {
        event.preventDefault();
        callerKey.set(input.current?.value ?? "");
        studio.keyChanged();
      }}
    >
      <div>
        <label for="caller-key">
          <strong>{rejected ? "The service does not take this key." : "The service needs a key."}</strong> Enter the one
          that you were given for it; it is kept in this tab only.
        </label>
        <input id="caller-key" ref={input} type="password" autoComplete="off" spellcheck={false} required />
      </div>
      <button type="submit">Use key</button>
    </form>
  );
}

/** Why there is no image, and what to do. */
export function ErrorNotice({ studio }: { studio: Studio }) {
  const state = studio.generation.state.value;
  if (state.kind !== "failed" || state.problem.needsKey) {
    return null;
  }
  const { title, advice, detail, connectionLost } = state.problem;
  // The connection's banner shows it already.
  if (connectionLost && studio.connection.state.value.kind === "lost") {
    return null;
  }
  return (
    <section class="notice is-error" aria-label="Failure">
      <div role="alert">
        <strong>{title}.</strong> <Advice text={advice} />
        {detail !== "" && <p class="detail">{detail}</p>}
      </div>
      <div class="buttons">
        <GenerateAgain studio={studio} problem={state.problem} />
        <button type="button" class="quiet" onClick={studio.generation.forget}>
          Dismiss
        </button>
      </div>
    </section>
  );
}

/** The button, with a countdown if the service sent a retry delay. */
function GenerateAgain({ studio, problem }: { studio: Studio; problem: UserError }) {
  const [failedAtMs, setFailedAtMs] = useState(Date.now());
  useEffect(() => setFailedAtMs(Date.now()), [problem]);
  const now = useNow(problem.retryAfterMs !== undefined, 500);
  const leftMs = problem.retryAfterMs === undefined ? 0 : failedAtMs + problem.retryAfterMs - now;
  return (
    <button type="button" onClick={studio.generate}>
      Generate again{leftMs > 0 && <span class="muted"> (room in {roughDuration(leftMs)})</span>}
    </button>
  );
}

/** The chosen theme. */
export type Theme = "system" | "light" | "dark";

const themes: readonly Theme[] = ["system", "light", "dark"];
const themeKey = "throughline.theme";

/** The theme, stored in this browser and set for the style sheet. */
export function createTheme(root: HTMLElement, storage: Storage): Signal<Theme> {
  const theme = createSignal(themes.find((each) => each === storage.getItem(themeKey)) ?? "system");
  effect(() => {
    root.dataset["theme"] = theme.value;
    storage.setItem(themeKey, theme.value);
  });
  return theme;
}

/** The one after it. */
export function nextTheme(theme: Theme): Theme {
  return themes[(themes.indexOf(theme) + 1) % themes.length] ?? "system";
}

/** The caller's key, for this tab only. */
export interface CallerKey {
  readonly current: ReadonlySignal<string | undefined>;
  /** Keeps a key until the tab is closed; an empty one forgets it. */
  set(key: string): void;
}

const keyKey = "throughline.key";

/** Opens the key with what this tab has. */
export function openCallerKey(storage: Pick<Storage, "getItem" | "setItem" | "removeItem">): CallerKey {
  const current = createSignal(storage.getItem(keyKey) ?? undefined);
  return {
    current,
    set(key) {
      const trimmed = key.trim();
      current.value = trimmed === "" ? undefined : trimmed;
      if (trimmed === "") {
        storage.removeItem(keyKey);
      } else {
        storage.setItem(keyKey, trimmed);
      }
    },
  };
}
