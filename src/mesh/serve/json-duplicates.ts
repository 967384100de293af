interface OpenObject {
  readonly keys: Set<string>;
  /** The key whose value is being read. */
  key: string;
}

/**
 * Finds the first object key that stands twice in a JSON text, and returns the path of keys to it; undefined where all are unique.
 * JSON.parse keeps the last of two silently. Only for a text that JSON.parse has accepted. Array indices are left out of the path.
 */
export function findDuplicateKey(text: string): readonly string[] | undefined {
  /** Undefined stands for an array. */
  const open: (OpenObject | undefined)[] = [];
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case "{":
        open.push({ keys: new Set(), key: "" });
        expectsKey = true;
        break;
      case "[":
        open.push(undefined);
        expectsKey = false;
        break;
      case "}":
      case "]":
        open.pop();
        expectsKey = false;
        break;
      case ",":
        expectsKey = open.at(-1) !== undefined;
        break;
      case '"': {
        const end = endOfString(text, i);
        const object = open.at(-1);
        if (expectsKey && object !== undefined) {
          expectsKey = false;
          object.key = unquote(text.slice(i, end + 1));
          if (object.keys.has(object.key)) {
            return open.flatMap((each) => (each === undefined ? [] : [each.key]));
          }
          object.keys.add(object.key);
        }
        i = end;
      }
    }
  }
  return undefined;
}

/** Index of the quote that closes the string whose opening quote is at `start`. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === "\\") {
      i++;
    } else if (text[i] === '"') {
      return i;
    }
  }
  return text.length;
}

/** Decodes escapes, so that a key and its escaped spelling are the same. */
function unquote(token: string): string {
  if (!token.includes("\\")) {
    return token.slice(1, -1);
  }
  const decoded: unknown = JSON.parse(token);
  return String(decoded);
}
