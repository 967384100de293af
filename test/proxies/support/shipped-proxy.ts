import assert from "node:assert/strict";
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import * as net from "node:net";
import { setImmediate } from "node:timers/promises";

/** A proxy whose configuration is shipped. */
export interface ShippedProxy {
  readonly name: string;
  /** Its configuration in `deploy/proxies/`. */
  readonly file: string;
  /** Its version; undefined if it is not installed. */
  readonly version: string | undefined;
  /** Why it cannot run here; false if it can. */
  readonly missing: string | false;
  /** Starts it with its configuration. Resolves when it accepts connections. */
  start(options: ProxyOptions): Promise<RunningProxy>;
}

/** What differs from the shipped configuration. */
export interface ProxyOptions {
  /** Port of the pipeline on the loopback. */
  readonly upstreamPort: number;
  /** Folder with `edge.crt`, `edge.key`, `edge.pem` and `ca.crt`, in place of `/etc/throughline`. */
  readonly folder: string;
  /** Text of the configuration, and what replaces it. @default none */
  readonly changes?: readonly Change[];
}

/** A text of a configuration, and what replaces each of it. */
export type Change = readonly [shipped: string, derived: string];

/** A running proxy. */
export interface RunningProxy {
  /** Port for clients, on the loopback, with TLS. */
  readonly port: number;
  /** Whether the pipeline has passed the proxy's own health check. Undefined if it makes none. */
  readonly hasPassedCheck?: () => Promise<boolean>;
  stop(): Promise<void>;
}

/** Text of a shipped configuration. */
export function shippedConfig(file: string): string {
  return readFileSync(new URL(`../../../deploy/proxies/${file}`, import.meta.url), "utf8");
}

/** A shipped configuration with changes. Each must apply, so that the test runs what is shipped. */
export function deriveConfig(file: string, changes: readonly Change[]): string {
  return changes.reduce((text, [shipped, derived]) => {
    assert.ok(text.includes(shipped), `deploy/proxies/${file} has no "${shipped}"`);
    return text.replaceAll(shipped, derived);
  }, shippedConfig(file));
}

/**
 * Finds the program that a variable names, or that of the usual places, with its version.
 *
 * @param version of what `-v` writes.
 */
export function findProgram(
  variable: string,
  name: string,
  version: RegExp,
): readonly [program: string, version: string | undefined] {
  const programs = [process.env[variable], name, `/usr/sbin/${name}`].filter((path) => path !== undefined);
  for (const program of programs) {
    const { error, stdout, stderr } = spawnSync(program, ["-v"], { encoding: "utf8" });
    if (error === undefined) {
      return [program, version.exec(`${stdout}${stderr}`)?.[1]];
    }
  }
  return [name, undefined];
}

/**
 * Starts a program, and waits until a port accepts connections.
 *
 * @returns ends it.
 */
export async function startProxy(
  program: string,
  args: readonly string[],
  port: number,
  options: SpawnOptions = {},
): Promise<() => Promise<void>> {
  const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  await once(child, "spawn");
  const ended = once(child, "exit");
  const output = collectOutput(child);
  while (!(await accepts(port))) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`${program} ended with ${child.exitCode ?? child.signalCode}: ${output()}`);
    }
    await setImmediate();
  }
  return async () => {
    child.kill("SIGTERM");
    await ended;
  };
}

function collectOutput(child: ChildProcess): () => string {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      text = `${text}${chunk}`.slice(-4_000);
    });
  }
  return () => text;
}

/** Whether a port of the loopback accepts connections. */
async function accepts(port: number): Promise<boolean> {
  const socket = net.connect(port, "127.0.0.1");
  const connected = await once(socket, "connect").then(
    () => true,
    () => false,
  );
  socket.destroy();
  return connected;
}
