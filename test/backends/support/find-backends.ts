import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";

/** Programs that take OTLP, as paths. */
export interface Backends {
  /** Jaeger's v2 program. */
  readonly jaeger: string;
  /** An OpenTelemetry Collector with the `otlp` receiver and the `file` exporter. */
  readonly otelcol: string;
}

/** A backend is missing and cannot be built. The message has the remedy. */
export class BackendsMissingError extends Error {
  override readonly name = "BackendsMissingError";
}

/** The module's version; the program that is built of it calls itself v2.13.0. */
const jaegerVersion = "v1.76.0";

/** The version that `otelcol.yaml` names. */
const otelcolVersion = "v0.158.0";

/**
 * The programs that the variables JAEGER and OTELCOL name. Where one is not named it is built with Go, once for each version, into
 * `throughline/backends` of the user's cache folder.
 *
 * @throws BackendsMissingError where there is no Go, or a build fails.
 */
export async function findBackends(): Promise<Backends> {
  return {
    jaeger: process.env["JAEGER"] || built(`jaeger-${jaegerVersion}`, buildJaeger),
    otelcol: process.env["OTELCOL"] || built(`otelcol-${otelcolVersion}`, buildOtelcol),
  };
}

function built(name: string, build: (folder: string, binary: string) => void): string {
  const folder = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "throughline", "backends");
  const binary = join(folder, name);
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true });
    process.stdout.write(`building ${name}; this takes minutes\n`);
    build(folder, binary);
  }
  return binary;
}

/** In its own module, so that its own list of checksums holds. Without the page, which only people need. */
function buildJaeger(folder: string, binary: string): void {
  const download = go(["mod", "download", "-json", `github.com/jaegertracing/jaeger@${jaegerVersion}`], folder);
  const { Dir } = z.object({ Dir: z.string() }).parse(JSON.parse(download));
  go(["build", "-mod=readonly", "-buildvcs=false", "-o", `${binary}.partial`, "./cmd/jaeger"], Dir);
  renameSync(`${binary}.partial`, binary);
}

/** With the Collector's own builder. */
function buildOtelcol(folder: string, binary: string): void {
  const sources = join(folder, `otelcol-${otelcolVersion}-sources`);
  mkdirSync(sources, { recursive: true });
  const config = fileURLToPath(new URL("../otelcol.yaml", import.meta.url));
  go(["run", `go.opentelemetry.io/collector/cmd/builder@${otelcolVersion}`, `--config=${config}`], sources);
  renameSync(join(sources, "otelcol"), binary);
}

/** Runs Go in a folder. @returns what it writes to stdout. */
function go(args: readonly string[], folder: string): string {
  const { error, status, stdout, stderr } = spawnSync("go", args, {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { ...process.env, GOWORK: "off" },
  });
  if (error !== undefined) {
    throw new BackendsMissingError(
      `Go builds the backends and cannot be run (${error.message}): install it, or name built programs by the variables JAEGER and OTELCOL`,
    );
  }
  if (status !== 0) {
    throw new BackendsMissingError(`go ${args[0]} failed in ${folder}:\n${stderr.split("\n").slice(-20).join("\n")}`);
  }
  return stdout;
}
