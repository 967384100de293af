/** How many colours the style sheet has: `--service-0` and so on. */
const colours = 8;

/** The two services that everybody has: the two colours that are farthest apart. */
const own: ReadonlyMap<string, number> = new Map([
  ["image-pipeline", 0],
  ["text-to-image-worker", 1],
]);

/** The number of a service's colour: always the same for the same name, wherever it is drawn. */
export function serviceColour(service: string): number {
  const number = own.get(service);
  if (number !== undefined) {
    return number;
  }
  // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
  let hash = 2_166_136_261;
  for (const character of service) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16_777_619) >>> 0;
  }
  return own.size + (hash % (colours - own.size));
}
