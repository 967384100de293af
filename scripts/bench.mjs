// Runs one benchmark: npm run bench -- NAME [options]. Without a name it lists them.
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { runNode } from "./run-node.mjs";

const folder = fileURLToPath(new URL("../bench", import.meta.url));
const names = readdirSync(folder).filter((name) => existsSync(`${folder}/${name}/main.ts`));
const [name, ...options] = process.argv.slice(2);

if (names.includes(name)) {
  runNode(["--import", "tsx", `bench/${name}/main.ts`, ...options]);
} else {
  process.stderr.write(`usage: npm run bench -- NAME [options], where NAME is one of: ${names.join(", ")}\n`);
  process.exitCode = 1;
}
