/** A model repository on the Hub at one of its revisions. */
export interface ModelId {
  /** `owner/name`. */
  readonly name: string;
  /** Branch, tag or commit hash. */
  readonly revision: string;
  /** A checkpoint of one file in it; absent: the whole model. */
  readonly file?: string;
}

const form = /^([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?(?::(.+\.safetensors))?$/;
/** What the Hub allows in no name, and what would lead out of the cache's folder. */
const forbidden = /--|\.\.|(?:^|\/)[.-]|[.-](?:\/|$)/;

/**
 * Reads `owner/name` or `owner/name@revision`, with `:file.safetensors` behind it for one of its files. The revision is `main` where none is
 * given. Undefined for anything else.
 */
export function parseModelId(text: string): ModelId | undefined {
  const [, name, revision = "main", file] = form.exec(text) ?? [];
  if (name === undefined || forbidden.test(name) || /\.\.|^\/|\/$|\/\//.test(revision)) {
    return undefined;
  }
  if (file !== undefined && !isInnerPath(file)) {
    return undefined;
  }
  return { name, revision, ...(file !== undefined && { file }) };
}

const longestPath = 1024;
const maxSegmentBytes = 255;

/**
 * Whether a text that came from outside names a file inside the folder that it is meant for: segments with a slash between them, none of
 * them empty, `.` or `..`, without backslashes and control characters, at most 1,024 characters.
 */
export function isInnerPath(path: string): boolean {
  return (
    path.length <= longestPath &&
    !/[\\\p{Cc}]/u.test(path) &&
    path
      .split("/")
      .every((part) => part !== "" && part !== "." && part !== ".." && Buffer.byteLength(part) <= maxSegmentBytes)
  );
}
