import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";

/** Connect's conformance suite, ready to run. */
export interface Suite {
  /** The runner, `connectconformance`. */
  readonly runner: string;
  /** Folder for what runs write. */
  readonly folder: string;
}

/** There is no Go to build the suite with. */
export class GoMissingError extends Error {
  override readonly name = "GoMissingError";
}

const version = "v1.0.7";
const nodeModules = fileURLToPath(new URL("../../../node_modules", import.meta.url));
/** `program/messages.ts` imports the generated code from it, so its path is known to both. */
const folder = join(nodeModules, ".cache", "throughline", "conformance");

/**
 * Builds the suite's runner with Go, and generates code for its messages from the protos in Go's module cache, once for each version.
 *
 * @throws GoMissingError where neither the suite nor Go is there; Error where the build fails.
 */
export function installSuite(): Suite {
  const done = join(folder, `installed-${version}`);
  if (!existsSync(done)) {
    process.stdout.write(`building Connect's conformance suite ${version}; this takes minutes the first time\n`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const download = run("go", ["mod", "download", "-json", `connectrpc.com/conformance@${version}`]);
    const { Dir } = z.object({ Dir: z.string() }).parse(JSON.parse(download));
    run("go", ["install", `connectrpc.com/conformance/cmd/connectconformance@${version}`]);
    generate(join(Dir, "proto"));
    writeFileSync(done, "");
  }
  return {
    runner: join(folder, process.platform === "win32" ? "connectconformance.exe" : "connectconformance"),
    folder,
  };
}

function generate(protos: string): void {
  const plugin = {
    local: join(nodeModules, ".bin", "protoc-gen-es"),
    out: join(folder, "gen"),
    opt: ["target=js+dts", "import_extension=js"],
  };
  const template = JSON.stringify({ version: "v2", plugins: [plugin] });
  run(join(nodeModules, ".bin", "buf"), ["generate", protos, "--template", template]);
  // Below node_modules Node takes .js for CommonJS unless a package says otherwise.
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }\n');
}

function run(program: string, args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync(program, args, {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { ...process.env, GOBIN: folder, GOWORK: "off" },
  });
  if (error !== undefined) {
    throw new GoMissingError(`${program} cannot be run: ${error.message}`);
  }
  if (status !== 0) {
    throw new Error(`${program} ${args[0]} failed:\n${stderr.split("\n").slice(-20).join("\n")}`);
  }
  return stdout;
}
