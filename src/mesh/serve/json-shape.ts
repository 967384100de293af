/** What a JSON text may look like. */
export interface JsonShapeLimits {
  /** Brackets inside one another. */
  readonly maxDepth: number;
  /** Members of one object. */
  readonly maxMembers: number;
}

/**
 * Says what is wrong with the shape of a JSON text; undefined where nothing is. Takes any text, in linear time and without recursion, so
 * that it can stand before JSON.parse, which spends seconds on a few kilobytes of compressed brackets or a megabyte of short keys.
 */
export function jsonShapeProblem(text: string, { maxDepth, maxMembers }: JsonShapeLimits): string | undefined {
  /** Colons seen in each bracket that is open, outside of brackets within. */
  const members: number[] = [];
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (inString) {
      if (code === backslash) {
        i++;
      } else if (code === quote) {
        inString = false;
      }
    } else if (code === quote) {
      inString = true;
    } else if (code === openBrace || code === openBracket) {
      if (members.push(0) > maxDepth) {
        return "nested too deeply";
      }
    } else if (code === closeBrace || code === closeBracket) {
      members.pop();
    } else if (code === colon) {
      const count = (members.pop() ?? 0) + 1;
      if (count > maxMembers) {
        return `an object has more than ${maxMembers} members`;
      }
      members.push(count);
    }
  }
  return undefined;
}

const quote = 0x22;
const colon = 0x3a;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;
