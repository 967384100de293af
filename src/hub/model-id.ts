/** A model repository on the Hub at one of its revisions. */
export interface ModelId {
  /** `owner/name`. */
  readonly name: string;
  /** Branch, tag or commit hash. */
  readonly revision: string;
}

const form = /^([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?$/;
/** What the Hub allows in no name, and what would lead out of the cache's folder. */
const forbidden = /--|\.\.|(?:^|\/)[.-]|[.-](?:\/|$)/;

/** Reads `owner/name` or `owner/name@revision`, the revision being `main` where none is given; undefined for anything else. */
export function parseModelId(text: string): ModelId | undefined {
  const [, name, revision = "main"] = form.exec(text) ?? [];
  if (name === undefined || forbidden.test(name) || /\.\.|^\/|\/$|\/\//.test(revision)) {
    return undefined;
  }
  return { name, revision };
}
