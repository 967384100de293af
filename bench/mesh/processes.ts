import { type ChildProcess, fork, type Serializable, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const compiledFolder = join(repository, "node_modules/.cache/bench-mesh");
const started = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of started) {
    child.kill("SIGKILL");
  }
});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => process.exit(1));
}

/** Programs of this folder that run as processes of their own. */
const programs = ["load", "sink", "own-worker", "plain-services"] as const;
type Program = (typeof programs)[number];

/** Compiles the benchmark's own programs, so that compiled code is compared with compiled code. Packages stay outside. */
export async function compilePrograms(): Promise<void> {
  await build({
    entryPoints: programs.map((name) => fileURLToPath(new URL(`./${name}.ts`, import.meta.url))),
    outdir: compiledFolder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    logLevel: "warning",
  });
}

export const compiled = (program: Program): string => join(compiledFolder, `${program}.mjs`);

/** A service that is ready. */
export interface Service {
  readonly pid: number;
  readonly url: string;
}

/**
 * Starts a service as a process and waits for its line `… is ready at URL` on stdout. Its stderr, the log, goes to a file.
 *
 * @throws Error with the end of the log when the process ends before that, or is not ready after 30 s.
 */
export async function startService(
  script: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  logFile: string,
): Promise<Service> {
  const log = openSync(logFile, "w");
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ["ignore", "pipe", log],
    env: { ...surroundings(), ...environment },
  });
  started.add(child);
  closeSync(log);
  const url = await Promise.race([readyUrl(child), delay(30_000, undefined, { ref: false })]);
  if (url === undefined || child.pid === undefined) {
    throw new Error(`${script} ${args.join(" ")} did not become ready: ${readFileSync(logFile, "utf8").slice(-2000)}`);
  }
  child.once("exit", (code, signal) => {
    if (started.delete(child)) {
      process.stderr.write(`${script} ended with ${code ?? signal}: ${readFileSync(logFile, "utf8").slice(-2000)}\n`);
      process.exit(1);
    }
  });
  return { pid: child.pid, url };
}

async function readyUrl(child: ChildProcess): Promise<string | undefined> {
  if (child.stdout === null) {
    return undefined;
  }
  for await (const line of createInterface(child.stdout)) {
    const url = / is ready at (http:\S+)$/.exec(line)?.[1];
    if (url !== undefined) {
      // Reading on keeps a service that writes more from blocking.
      child.stdout.resume();
      return url;
    }
  }
  return undefined;
}

/** Ends a service at once. */
export function killService({ pid }: Service): void {
  for (const child of started) {
    if (child.pid === pid) {
      started.delete(child);
      child.kill("SIGKILL");
    }
  }
}

/** A program of the benchmark that takes requests and sends replies over IPC. */
export interface Peer<Request extends Serializable, Reply> {
  send(request: Request): void;
  /** The next reply of that kind. */
  reply<Kind extends ReplyKind<Reply>>(kind: Kind): Promise<Extract<Reply, { kind: Kind }>>;
}
type ReplyKind<Reply> = Reply extends { kind: infer Kind } ? Kind : never;

export function startPeer<Request extends Serializable, Reply extends { kind: string }>(
  program: Program,
  args: readonly string[] = [],
): Peer<Request, Reply> {
  const child = fork(compiled(program), args, { env: surroundings(), execArgv: [] });
  started.add(child);
  child.once("exit", (code, signal) => {
    process.stderr.write(`${program} ended with ${code ?? signal}\n`);
    process.exit(1);
  });
  return {
    send: (request) => void child.send(request),
    reply<Kind extends ReplyKind<Reply>>(kind: Kind) {
      return new Promise<Extract<Reply, { kind: Kind }>>((resolve) => {
        const listener = (reply: Reply) => {
          if (isOfKind(reply, kind)) {
            child.off("message", listener);
            resolve(reply);
          }
        };
        child.on("message", listener);
      });
    },
  };
}

function isOfKind<Reply extends { kind: string }, Kind>(
  reply: Reply,
  kind: Kind,
): reply is Extract<Reply, { kind: Kind }> {
  return reply.kind === kind;
}

/** The environment without what configures services or telemetry. */
function surroundings(): NodeJS.ProcessEnv {
  const configures = /^(?:THROUGHLINE_|OTEL_|ENABLE_TRACING$|NODE_OPTIONS$|https?_proxy$)/i;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !configures.test(name)));
}

/** CPU time of a process so far, user and system, in seconds (Linux: in ticks of 10 ms). */
export function cpuSeconds({ pid }: Service): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Resident memory of a process in MiB: now, or the peak since {@link resetPeak}. */
export function residentMiB({ pid }: Service, which: "now" | "peak"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kibibytes = (which === "now" ? /VmRSS:\s+(\d+)/ : /VmHWM:\s+(\d+)/).exec(status)?.[1];
  return Number(kibibytes) / 1024;
}

/** Begins the peak anew. @see proc_pid_clear_refs(5) */
export function resetPeak({ pid }: Service): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}
