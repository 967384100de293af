import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { compiledProgram } from "./compiled-program.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** How a command ended. */
export interface CommandEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The command line, running in a process group of its own. */
export interface RunningCommand {
  readonly pid: number;
  /** All that it wrote so far. */
  readonly stdout: string;
  readonly stderr: string;
  /** Resolves when the command itself has ended and its output is read to the end. */
  readonly ended: Promise<CommandEnd>;
  /** Resolves with the first match in what it wrote to either stream; rejects when it ends without one. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** Signals the command alone, as a service manager does. */
  kill(signal: NodeJS.Signals): void;
  /** Signals the whole group, as a terminal's Ctrl-C does. */
  killGroup(signal: NodeJS.Signals): void;
  /** Processes of the group that live: `pid command`. */
  living(): string[];
  /** Resolves when none lives; rejects when some still do after a minute. The system does not report the end of a grandchild. */
  gone(): Promise<void>;
}

/** Starts `throughline`, compiled from the checkout. Remaining processes are killed after the test. */
export function startCommand(
  t: Pick<TestContext, "after">,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): RunningCommand {
  return startProgram(t, [compiledProgram, ...args], environment);
}

/** Starts `throughline` as `npm run throughline` does in a checkout. */
export function startFromCheckout(
  t: TestContext,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): RunningCommand {
  return startProgram(t, ["scripts/throughline.mjs", ...args], environment);
}

/** Starts a Node program in the checkout. Remaining processes of its group are killed after the test. */
export function startProgram(
  t: Pick<TestContext, "after">,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): RunningCommand {
  const child = spawn(process.execPath, args, {
    cwd: root,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...plainEnvironment(), ...environment },
  });
  const { pid } = child;
  if (pid === undefined) {
    throw new Error("the command could not be started");
  }
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const ended = once(child, "close").then(([code, signal]): CommandEnd => ({ code, signal }));
  const killGroup = (signal: NodeJS.Signals) => {
    try {
      process.kill(-pid, signal);
    } catch (error) {
      // It may have ended a moment ago.
      assert.ok(error instanceof Error && "code" in error && error.code === "ESRCH");
    }
  };
  const living = () => livingInGroup(pid);
  t.after(() => {
    if (living().length > 0) {
      killGroup("SIGKILL");
    }
  });
  return {
    pid,
    get stdout() {
      return stdout.text();
    },
    get stderr() {
      return stderr.text();
    },
    ended,
    waitFor(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(stdout.text()) ?? pattern.exec(stderr.text());
          if (match) {
            resolve(match);
          }
        };
        child.stdout.on("data", look);
        child.stderr.on("data", look);
        look();
        void ended.then(() => reject(new Error(`ended without ${pattern}: ${stdout.text()}\n${stderr.text()}`)));
      });
    },
    kill: (signal) => child.kill(signal),
    killGroup,
    living,
    async gone() {
      const deadline = performance.now() + 60_000;
      while (living().length > 0) {
        if (performance.now() > deadline) {
          throw new Error(`still living: ${living().join("; ")}`);
        }
        await delay(50);
      }
    },
  };
}

/** Runs `throughline` to its end. */
export async function runCommand(
  t: Pick<TestContext, "after">,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandEnd & { readonly stdout: string; readonly stderr: string }> {
  const command = startCommand(t, args, environment);
  const end = await command.ended;
  return { ...end, stdout: command.stdout, stderr: command.stderr };
}

/** This process's environment without what configures the command line or tracing. */
function plainEnvironment(): Record<string, string | undefined> {
  const configures = /^(?:THROUGHLINE_|OTEL_|HF_|ENABLE_TRACING$|NODE_TEST_CONTEXT$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !configures.test(name)));
}

function collect(stream: Readable): { text(): string } {
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  return { text: () => text };
}

/**
 * What has ended and only waits to be reaped does not count, nor does the compiler that the TypeScript loader starts: it belongs to
 * the tests' way of running the program, and ends a moment after it.
 */
function livingInGroup(group: number): string[] {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,pgid=,stat=,args="], { encoding: "utf8" }).split("\n");
  return lines.flatMap((line) => {
    const [, pid, processGroup, state, command] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    const counts =
      Number(processGroup) === group && !state?.startsWith("Z") && !/\besbuild --service/.test(command ?? "");
    return counts ? [`${pid} ${command}`] : [];
  });
}
