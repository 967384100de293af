// Prints one of the README's two set-up lines: the line of shell that follows the marker <!-- setup: NAME -->.
import { readFileSync } from "node:fs";

const name = process.argv[2];
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const line = new RegExp(`<!-- setup: ${name} -->\\s*\`\`\`sh\\n(.+)\\n\`\`\``).exec(readme)?.[1];
if (line === undefined) {
  process.stderr.write(`README.md has no line of shell after <!-- setup: ${name} -->\n`);
  process.exit(1);
}
process.stdout.write(`${line}\n`);
