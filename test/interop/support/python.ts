import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pythonEnvironment } from "../../support/python-environment.js";
import { cacheFolder, root } from "./cache-folder.js";
import { runProgram } from "./run-program.js";

const requirements = fileURLToPath(new URL("../python/requirements.txt", import.meta.url));

/** A Python with grpcio, and the contract's generated code. */
export interface GrpcPython {
  /** Path of the interpreter. */
  readonly python: string;
  /** Folder of the generated code. */
  readonly generated: string;
}

/** Makes the virtual environment, and generates the contract's code anew. */
export async function prepareGrpcPython(): Promise<GrpcPython> {
  const python = await pythonEnvironment(requirements);
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

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, tail } = await runProgram(program, args, { timeoutMs: 600_000 });
  if (code !== 0) {
    throw new Error(`${program} ${args.slice(0, 3).join(" ")} failed:\n${tail}`);
  }
}
