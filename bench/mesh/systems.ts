import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { compiled, killService, type Service, startService } from "./processes.js";

export const repository = fileURLToPath(new URL("../../", import.meta.url));

/** What is measured: this checkout, one of the two plain ones, or another checkout of ours. */
export type SystemKind = { readonly own: string } | { readonly plain: "connect-node" | "grpc-js" };

/** Both services of a system, which run. */
export interface System {
  readonly name: string;
  readonly url: string;
  readonly pipeline: Service;
  readonly worker: Service;
  stop(): void;
}

/** The plain system on connect-node is what all others are compared with. */
export const plainName = "connect-node";
export const ownName = "throughline";

/**
 * What a name of `--systems` means.
 *
 * @throws Error that names what is possible.
 */
export function systemKind(name: string): SystemKind {
  if (name === ownName) {
    return { own: repository };
  }
  if (name === "connect-node" || name === "grpc-js") {
    return { plain: name };
  }
  throw new Error(`--systems takes ${ownName}, connect-node and grpc-js, not ${name}; --ours takes a folder`);
}

/**
 * Another version of ours: a checkout that is built, or its dist folder.
 *
 * @throws Error where there is none.
 */
export function otherVersion(folder: string): { readonly name: string; readonly kind: SystemKind } {
  const given = resolve(folder);
  const root = existsSync(join(given, "package.json")) ? given : dirname(given);
  if (!existsSync(cliOf(root))) {
    throw new Error(`--ours ${folder}: ${root} is not a checkout of throughline that is built (npm run build)`);
  }
  return { name: `${ownName}:${basename(root)}`, kind: { own: root } };
}

/** Telemetry is the same for all: a queue in which nothing is lost under load, and a delay that keeps the wait for the last spans short. */
const telemetry = (endpoint: string) => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
  OTEL_BSP_SCHEDULE_DELAY: "500",
  OTEL_BSP_MAX_QUEUE_SIZE: "16384",
});

/** Options of {@link startSystem}. */
export interface SystemOptions {
  /** Where spans go. */
  readonly endpoint: string;
  /** Folder for the services' logs. */
  readonly logs: string;
  /** Ours only: whether the engine holds each image until its call is cancelled. */
  readonly hold?: boolean;
}

/** Starts a system's worker and pipeline, ours with the settings that its commands have by default. */
export async function startSystem(name: string, kind: SystemKind, options: SystemOptions): Promise<System> {
  const environment = telemetry(options.endpoint);
  const start = (role: string, script: string, args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
    startService(
      script,
      args,
      { ...environment, ...more },
      join(options.logs, `${name.replaceAll(/\W/g, "-")}-${role}.log`),
    );
  let worker: Service;
  let pipeline: Service;
  if ("plain" in kind) {
    const script = compiled("plain-services");
    worker = await start("worker", script, [kind.plain, "worker"]);
    pipeline = await start("pipeline", script, [kind.plain, "pipeline", worker.url]);
  } else {
    const hold = options.hold ? ["hold"] : [];
    worker = await start("worker", compiled("own-worker"), [kind.own, ...hold], { THROUGHLINE_PORT: "0" });
    const route = `local/text-to-image-worker=${new URL(worker.url).host}`;
    pipeline = await start("pipeline", cliOf(kind.own), ["pipeline", "--port", "0", "--worker", route]);
  }
  return {
    name,
    url: pipeline.url,
    pipeline,
    worker,
    stop() {
      killService(pipeline);
      killService(worker);
    },
  };
}

/** The command line of a built checkout. */
function cliOf(root: string): string {
  const packageJson: { bin?: { throughline?: string } } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return join(root, packageJson.bin?.throughline ?? "");
}
