import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** Message to a worker process: whether its generations stop at their second step. */
export interface WorkerOrder {
  readonly hold: boolean;
}

/** Message from a worker process. `ended`: the engine has generated the whole image. */
export type WorkerReport =
  | { readonly kind: "ready"; readonly port: number }
  | { readonly kind: "begun" | "holding" | "ended"; readonly prompt: string };

/** Settings of a worker process. */
export interface WorkerSettings {
  /** @default a free one */
  readonly port?: number | undefined;
  /** Milliseconds of each of the four steps. @default 2 */
  readonly stepMs?: number | undefined;
  /** Variables of its telemetry and of Node. @default no tracing */
  readonly environment?: Readonly<Record<string, string>> | undefined;
  /** File of the program. @default its source */
  readonly program?: string | undefined;
}

/** Source of the program. */
export const workerProgram: string = fileURLToPath(new URL("./worker-program.ts", import.meta.url));

/** The settings in the form in which the program gets them. */
export type WorkerArguments = Pick<WorkerSettings, "port" | "stepMs">;

export type WorkerProcess = Awaited<ReturnType<typeof startWorkerProcess>>;

/** Starts a worker with a fake engine in a process of its own; it ends with this process. */
export async function startWorkerProcess(options: WorkerSettings = {}) {
  const { environment, program = workerProgram, ...settings } = options;
  const child = fork(program, [JSON.stringify(settings satisfies WorkerArguments)], {
    stdio: "inherit",
    ...(program !== workerProgram && { execArgv: [] }),
    env: { ...process.env, ENABLE_TRACING: "false", ...environment },
  });
  const begun: string[] = [];
  const generated: string[] = [];
  const waiting: { readonly kind: WorkerReport["kind"]; readonly resolve: () => void }[] = [];
  let port = 0;
  /** Resolves when a generation of this prompt has begun. */
  const began = async (prompt: string): Promise<void> => {
    while (!begun.includes(prompt)) {
      await next("begun");
    }
  };
  const next = (kind: WorkerReport["kind"]) => new Promise<void>((resolve) => waiting.push({ kind, resolve }));
  child.on("message", (report: WorkerReport) => {
    if (report.kind === "ready") {
      port = report.port;
    } else if (report.kind === "begun") {
      begun.push(report.prompt);
    } else if (report.kind === "ended") {
      generated.push(report.prompt);
    }
    for (const entry of [...waiting]) {
      if (entry.kind === report.kind) {
        waiting.splice(waiting.indexOf(entry), 1);
        entry.resolve();
      }
    }
  });
  const exited = once(child, "exit");
  const ended = exited.then(([code]) => Promise.reject(new Error(`the worker ended with ${code}`)));
  await Promise.race([next("ready"), ended]);
  // Its later end is what the tests want.
  ended.catch(() => {});
  return {
    port,
    pid: child.pid ?? 0,
    /** Prompts of the generations that began. */
    begun,
    /** Prompts of the generations that ran to their end. */
    generated,
    began,
    hold: (hold: boolean) => void child.send({ hold } satisfies WorkerOrder),
    /** Resolves when the next generation begins. */
    beginning: () => next("begun"),
    /** Resolves when a generation stands at its second step from now on. */
    holding: () => next("holding"),
    /** Lets running calls finish. Resolves with the exit code. */
    async drain(): Promise<unknown> {
      child.kill("SIGTERM");
      const [code] = await exited;
      return code;
    },
    async kill(): Promise<void> {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit");
        child.kill("SIGKILL");
        await ended;
      }
    },
  };
}
