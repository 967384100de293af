import { basename, relative, sep } from "node:path";

/**
 * Names what lies in the cache of the Hugging Face Hub: `owner/name`, and the path of a file in it behind a colon. Undefined for other
 * paths. A snapshot lies at `models--owner--name/snapshots/<commit>`, and its own name says nothing.
 */
export function hubName(path: string): string | undefined {
  const parts = path.split(sep);
  const at = parts.lastIndexOf("snapshots");
  const [, owner, name] = /^models--(.+?)--(.+)$/.exec(parts[at - 1] ?? "") ?? [];
  if (owner === undefined || parts[at + 1] === undefined) {
    return undefined;
  }
  const inside = relative(parts.slice(0, at + 2).join(sep), path);
  return `${owner}/${name}${inside === "" ? "" : `:${inside.split(sep).join("/")}`}`;
}

/** What a model is called: its id on the Hub, else the name of its folder. */
export function modelName(path: string): string {
  return hubName(path) ?? basename(path);
}
