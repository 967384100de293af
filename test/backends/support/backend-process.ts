import { spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";

/** A program built of the OpenTelemetry Collector, as both backends are. */
export interface BackendProcess {
  /** Ends it as a service manager does, and waits for its end. */
  stop(): Promise<void>;
}

/** Log message of the program when all of its parts run. */
const readyWords = "Everything is ready";

/** Starts a program with a configuration; it is ready when this resolves. What is left of it is killed when the test is done. */
export async function startBackend(t: TestContext, program: string, configFile: string): Promise<BackendProcess> {
  const child = spawn(program, [`--config=${configFile}`], { stdio: ["ignore", "ignore", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  const ended = once(child, "exit");
  await new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${output}`)));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
      if (output.includes(readyWords)) {
        resolve();
      }
    });
  });
  return {
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/** Polls until there is an answer; backends do not report what they received. */
export async function until<T>(what: string, ask: () => Promise<T | undefined>, timeoutMs = 60_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) {
      return answer;
    }
    if (performance.now() > deadline) {
      throw new Error(`${what} did not come within ${timeoutMs} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The value of a variable that `main.ts` sets. */
export function programOf(variable: "JAEGER" | "OTELCOL"): string {
  const path = process.env[variable];
  if (path === undefined) {
    throw new Error(`${variable} is not set: run it by npm run test:backends`);
  }
  return path;
}
