import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheFolder, root } from "./cache-folder.js";
import { ToolMissingError } from "./part.js";
import { runProgram } from "./run-program.js";

const requirements = fileURLToPath(new URL("../python/requirements.txt", import.meta.url));

/** A Python with grpcio, and the contract's generated code. */
export interface GrpcPython {
  /** Path of the interpreter. */
  readonly python: string;
  /** Folder of the generated code. */
  readonly generated: string;
}

/** Makes a virtual environment, once for each list of requirements, and generates the contract's code anew. */
export async function prepareGrpcPython(): Promise<GrpcPython> {
  const digest = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 12);
  const environment = join(cacheFolder("python"), digest);
  if (!existsSync(environment)) {
    await makeEnvironment(environment);
  }
  const python = join(environment, "bin", "python");
  const generated = cacheFolder("python-generated");
  rmSync(generated, { recursive: true });
  cacheFolder("python-generated");
  const protos = readdirSync(join(root, "proto", "throughline", "v1")).map((name) => `throughline/v1/${name}`);
  await must(python, [
    "-m",
    "grpc_tools.protoc",
    `-I${join(root, "proto")}`,
    `-I${join(root, "third_party", "proto")}`,
    `--python_out=${generated}`,
    `--grpc_python_out=${generated}`,
    "buf/validate/validate.proto",
    ...protos,
  ]);
  return { python, generated };
}

async function makeEnvironment(environment: string): Promise<void> {
  const partial = `${environment}.partial`;
  rmSync(partial, { recursive: true, force: true });
  const { code, errorCode, tail } = await runProgram("python3", ["-m", "venv", partial], { timeoutMs: 120_000 });
  if (errorCode === "ENOENT") {
    throw new ToolMissingError("python3 is not installed");
  }
  if (code !== 0) {
    throw new ToolMissingError(`python3 cannot make a virtual environment with pip:\n${tail}`);
  }
  process.stdout.write("installing grpcio into a virtual environment\n");
  await must(join(partial, "bin", "python"), ["-m", "pip", "install", "--quiet", "--requirement", requirements]);
  renameSync(partial, environment);
}

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, tail } = await runProgram(program, args, { timeoutMs: 600_000 });
  if (code !== 0) {
    throw new Error(`${program} ${args.slice(0, 3).join(" ")} failed:\n${tail}`);
  }
}
