import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";
import { loaderArguments } from "./test-program.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** What stands in a page's block after the marker `<!-- run: name -->`, word by word. */
export function documentedBlock(page: string, name: string): string {
  const content = readFileSync(new URL(`../../${page}`, import.meta.url), "utf8");
  const found = new RegExp(`<!-- run: ${name} -->\\s*\`\`\`\\w+\\n([\\s\\S]*?)\\n\`\`\``).exec(content)?.[1];
  assert.ok(found, `${page} has no block ${name}`);
  return found;
}

/** The TypeScript programs of a page: all its blocks after a marker `<!-- run: … -->`. */
export function documentedPrograms(page: string): readonly string[] {
  const content = readFileSync(new URL(`../../${page}`, import.meta.url), "utf8");
  return [...content.matchAll(/<!-- run: [\w-]+ -->\s*```ts\n([\s\S]*?)```/g)].map(([, code = ""]) => code);
}

/** Runs a command in the checkout and gives what it printed; fails unless it ends well. */
export async function runCommand(command: string, args: readonly string[]): Promise<string> {
  // Else a test in a snippet would speak to the runner of this one.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const [out, error, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  assert.equal(code, 0, `${out}${error}`);
  return out;
}

/** Arguments of Node that run a TypeScript snippet as a user's module, with the package found by its name. */
export function snippetArguments(code: string): readonly string[] {
  // Node 20 runs no TypeScript, and tsx compiles files and no code in an argument.
  const script = transformSync(code, { loader: "ts", format: "esm" }).code;
  return [...loaderArguments, "--input-type=module", "--eval", script];
}
