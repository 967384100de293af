import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** Message to a worker process: whether its generations stop at their second step. */
export interface WorkerOrder {
  readonly hold: boolean;
}

/** Message from a worker process. */
export type WorkerReport =
  | { readonly kind: "ready"; readonly port: number }
  | { readonly kind: "begun" | "holding"; readonly prompt: string };

export type WorkerProcess = Awaited<ReturnType<typeof startWorkerProcess>>;

/** Starts a worker with a fake engine in a process of its own; it ends with this process. */
export async function startWorkerProcess() {
  const child = fork(fileURLToPath(new URL("./worker-program.ts", import.meta.url)), { stdio: "inherit" });
  const begun: string[] = [];
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
    }
    for (const entry of [...waiting]) {
      if (entry.kind === report.kind) {
        waiting.splice(waiting.indexOf(entry), 1);
        entry.resolve();
      }
    }
  });
  const ended = once(child, "exit").then(([code]) => Promise.reject(new Error(`the worker ended with ${code}`)));
  await Promise.race([next("ready"), ended]);
  // Its later end is what the tests want.
  ended.catch(() => {});
  return {
    port,
    /** Prompts of the generations that began. */
    begun,
    began,
    hold: (hold: boolean) => void child.send({ hold } satisfies WorkerOrder),
    /** Resolves when a generation stands at its second step from now on. */
    holding: () => next("holding"),
    async kill(): Promise<void> {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit");
        child.kill("SIGKILL");
        await ended;
      }
    },
  };
}
