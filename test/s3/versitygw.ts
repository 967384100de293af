import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { steadyPort } from "../support/steady-port.js";

const run = promisify(execFile);

/** Release of Versity's S3 gateway, an object store over a folder. */
const release = "v1.8.0";
const cache = fileURLToPath(new URL(`../../node_modules/.cache/throughline-versitygw/${release}`, import.meta.url));

/**
 * Finds the gateway: `VERSITYGW`, or one that is built from the Go proxy once.
 *
 * @returns its path, or why there is none.
 */
export async function findVersitygw(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const path = process.env["VERSITYGW"] ?? join(cache, "versitygw");
  if (existsSync(path)) {
    return { path };
  }
  mkdirSync(cache, { recursive: true });
  process.stdout.write(`building versitygw ${release} (some minutes, once)\n`);
  try {
    const source = `github.com/versity/versitygw/cmd/versitygw@${release}`;
    await run("go", ["install", source], { env: { ...process.env, GOBIN: cache } });
    return { path };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return { missing: "Go is not installed: versitygw cannot be built. VERSITYGW names a binary of it" };
    }
    throw error;
  }
}

export type Versitygw = Awaited<ReturnType<typeof startVersitygw>>;

/** Starts the gateway on a free port with one bucket `images`, over a folder of its own or another one. */
export async function startVersitygw(program: string, folder = mkdtempSync(join(tmpdir(), "throughline-s3-"))) {
  const port = await steadyPort();
  const endpoint = `http://127.0.0.1:${port}`;
  const users = mkdtempSync(join(tmpdir(), "throughline-s3-users-"));
  const metadata = mkdtempSync(join(tmpdir(), "throughline-s3-metadata-"));
  mkdirSync(join(folder, "images"), { recursive: true });
  let gateway: ChildProcess | undefined;
  const answers = () =>
    fetch(endpoint).then(
      () => true,
      () => false,
    );
  const start = async (secret = "secret-one"): Promise<void> => {
    const flags = [
      "--quiet",
      "--port",
      `127.0.0.1:${port}`,
      "--iam-dir",
      users,
      "posix",
      "--sidecar",
      metadata,
      folder,
    ];
    const environment = { ...process.env, ROOT_ACCESS_KEY: "tester", ROOT_SECRET_KEY: secret };
    const started = spawn(program, flags, { env: environment, stdio: "ignore" });
    gateway = started;
    while (!(await answers())) {
      if (started.exitCode !== null) {
        throw new Error(`versitygw ended with ${started.exitCode}`);
      }
    }
  };
  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<void> => {
    if (gateway !== undefined && gateway.exitCode === null && gateway.signalCode === null) {
      const ended = once(gateway, "exit");
      gateway.kill(signal);
      await ended;
    }
  };
  await start();
  return {
    endpoint,
    folder,
    /** Starts it again, with another secret of its only user. */
    start,
    end,
    async remove(): Promise<void> {
      await end("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
      rmSync(users, { recursive: true, force: true });
      rmSync(metadata, { recursive: true, force: true });
    },
  };
}
