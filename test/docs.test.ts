import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const docs = filesBelow("docs");
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "SECURITY.md",
  "bench/README.md",
  "training/README.md",
  "models/emoji-xl/README.md",
]
  .concat(filesBelow("examples"), filesBelow("deploy"), docs)
  .filter((path) => path.endsWith(".md"));

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll(sep, "/"));
}

const read = (path: string) => readFileSync(join(root, path), "utf8");
const withoutCode = (page: string) => read(page).replace(/^```[\s\S]*?^```/gm, "");

/** Where a page's links lead, below the root, with their anchors. Links to other sites are left out. */
function linksOf(page: string): { readonly path: string; readonly anchor: string | undefined }[] {
  return [...withoutCode(page).matchAll(/\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)/g)].map(([, path, anchor]) => ({
    path: path ? join(dirname(page), path).replaceAll(sep, "/").replace(/\/$/, "") : page,
    anchor,
  }));
}

/** Anchors of a page, as GitHub makes them of headings, and those that it sets itself. */
function anchorsOf(page: string): ReadonlySet<string> {
  const text = withoutCode(page);
  const count = new Map<string, number>();
  const ofHeadings = [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = ""]) => {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const slug = plain.replace(/[^\p{L}\p{N}\p{M} _-]/gu, "").replaceAll(" ", "-");
    const before = count.get(slug) ?? 0;
    count.set(slug, before + 1);
    return before === 0 ? slug : `${slug}-${before}`;
  });
  return new Set([...ofHeadings, ...[...text.matchAll(/<a id="([^"]+)">/g)].map((match) => match[1] ?? "")]);
}

test("files that documentation names in code exist", () => {
  const named = /`((?:src|test|scripts|bench|docs|proto|examples|training|models|deploy)\/[\w./-]+\.\w+)`/g;
  const missing = pages.flatMap((page) =>
    [...withoutCode(page).matchAll(named)]
      .map(([, path = ""]) => path)
      // A page of an example names files of its own folder.
      .filter((path) => !existsSync(join(root, path)) && !existsSync(join(root, dirname(page), path)))
      .map((path) => `${page}: ${path}`),
  );
  assert.deepEqual(missing, []);
});

test("documentation has no dead links", () => {
  const dead = pages.flatMap((page) =>
    linksOf(page)
      .filter(({ path, anchor }) => !leadsSomewhere(path, anchor))
      .map(({ path, anchor }) => `${page} → ${path}${anchor === undefined ? "" : `#${anchor}`}`),
  );
  assert.deepEqual(dead, []);
});

function leadsSomewhere(path: string, anchor: string | undefined): boolean {
  if (!existsSync(join(root, path))) {
    return false;
  }
  return anchor === undefined || statSync(join(root, path)).isDirectory() || anchorsOf(path).has(anchor);
}

test("documented npx commands run this package, or name the package that has them", () => {
  // `npx buf` would fetch and run a package of somebody else's wherever buf is not installed.
  const known = /^(?:throughline|--no-install throughline|-p @bufbuild\/buf buf)\b/;
  const texts = [
    ...pages,
    ...filesBelow("src").filter((path) => /\.(?:tsx?|html)$/.test(path)),
    ...filesBelow("proto"),
  ];
  const unknown = texts.flatMap((path) =>
    [...read(path).matchAll(/\bnpx +(.*)/g)]
      .filter(([, command = ""]) => !known.test(command))
      .map(([command]) => `${path}: ${command}`),
  );
  assert.ok(texts.some((path) => /\bnpx -p @bufbuild\/buf buf/.test(read(path))));
  assert.deepEqual(unknown, []);
});

test("docs/README.md links every page of docs/, and every image is used", () => {
  const isListed = (path: string) => path.startsWith("docs/") && !/^docs\/(?:README\.md$|api\/(?!README))/.test(path);
  const linked = new Set(
    linksOf("docs/README.md")
      .map(({ path }) => path)
      .filter(isListed),
  );
  const listed = docs.filter((path) => isListed(path) && !path.endsWith(".png"));
  assert.deepEqual([...linked].sort(), listed.sort());
  const shown = new Set(pages.flatMap(linksOf).map(({ path }) => path));
  assert.deepEqual(
    docs.filter((path) => path.endsWith(".png") && !shown.has(path)),
    [],
  );
});

/** Generated references. */
const longLines = /^docs\/(?:api\/|contract\.md$)/;

test("documentation has no line over 160 characters outside tables and code", () => {
  const long = pages
    .filter((page) => !longLines.test(page))
    .flatMap((page) =>
      withoutCode(page)
        .split("\n")
        .filter((line) => !line.startsWith("|") && [...withoutUrls(line)].length > 160)
        .map((line) => `${page}: ${line.slice(0, 80)}…`),
    );
  assert.deepEqual(long, []);
});

/** A link's target may be as long as it has to be. */
const withoutUrls = (line: string) => line.replace(/\]\([^)]*\)/g, "]").replace(/https?:\/\/\S+/g, "");
