import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Suite } from "./install-suite.js";
import type { Outcome } from "./known-failures.js";

/** One implementation that the suite is run against. */
export interface Target {
  /** Name of its list of known failures, and the argument of its program. */
  readonly name: string;
  /** Which side of the calls it is, and which program in `program/` serves it. */
  readonly mode: "client" | "server";
  /** What it supports: a file in `config/`. */
  readonly config: string;
}

/**
 * Runs the suite against a target.
 *
 * @returns what each case came to, in the order of their names.
 * @throws Error where the suite does not say what each case came to, with the last lines of its output.
 */
export async function runSuite({ runner, folder }: Suite, { name, mode, config }: Target): Promise<Outcome[]> {
  const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
  const compiled = await compile(["client", "launcher", "server"], join(folder, "program"));
  const server = mode === "server" ? await startHost([compiled("server"), name]) : undefined;
  const program = server ? [compiled("launcher"), server.port] : [compiled("client"), name];
  // Every case is announced as failing, so that each is named in the report with what it came to; the lists are compared here.
  const args = ["--mode", mode, "--conf", path(`../config/${config}`), "--known-failing", "**"];
  const child = spawn(runner, [...args, "--", process.execPath, ...program], { stdio: ["ignore", "pipe", "pipe"] });
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  server?.stop();
  writeFileSync(join(folder, `${name}.log`), `${output}\n${errors}`);
  const outcomes = readOutcomes(output);
  const total = Number(/^Total cases: (\d+)$/m.exec(output)?.[1]);
  // Neither says anything of the target: the program did not start, or the machine has too much else to do.
  if (outcomes.length !== total || /^Another \d+ could not be run|^\s+error (starting|reading) server/m.test(output)) {
    const tail = `${output}\n${errors}`.trim().split("\n").slice(-12).join("\n");
    throw new Error(`${name}: not every case could be run:\n${tail}`);
  }
  return outcomes;
}

/** Compiles programs, so that they start fast. Returns where each one is. */
async function compile(names: readonly string[], outdir: string): Promise<(name: string) => string> {
  await build({
    entryPoints: names.map((each) => fileURLToPath(new URL(`../program/${each}.ts`, import.meta.url))),
    outdir,
    bundle: true,
    platform: "node",
    format: "esm",
    packages: "external",
  });
  return (name) => join(outdir, `${name}.js`);
}

/** Starts the process that serves, and waits for the port where launchers ask it to. */
async function startHost(args: readonly string[]): Promise<{ readonly port: string; stop(): void }> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [first] = await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  const port = String(first).trim();
  if (!/^\d+$/.test(port) || child.exitCode !== null) {
    throw new Error(`the server's process ended with ${port}`);
  }
  return { port, stop: () => void child.kill() };
}

/** Reads the report of a run in which every case was announced as failing. */
function readOutcomes(output: string): Outcome[] {
  const outcomes: Outcome[] = [];
  let current: { name: string; error: string } | undefined;
  for (const line of output.split("\n")) {
    const passed = /^FAILED: (.+) was expected to fail but did not$/.exec(line)?.[1];
    const failed = /^(?:INFO: (.+) failed \(as expected\)|FAILED: (.+)):$/.exec(line);
    if (passed !== undefined) {
      current = undefined;
      outcomes.push({ name: passed });
    } else if (failed !== null) {
      current = { name: failed[1] ?? failed[2] ?? "", error: "" };
      outcomes.push(current);
    } else if (current !== undefined && /^\s/.test(line)) {
      current.error += `${current.error === "" ? "" : "; "}${line.trim()}`;
    } else {
      current = undefined;
    }
  }
  return outcomes;
}
