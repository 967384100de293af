import { copyFileSync, existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheFolder } from "./cache-folder.js";
import { ToolMissingError } from "./part.js";
import { runProgram } from "./run-program.js";

const grpcVersion = "v1.85.0";
const h2specVersion = "v2.2.1+incompatible";

/** The programs that grpc-go's interoperability tests need, as paths. */
export interface GrpcGo {
  readonly client: string;
  readonly server: string;
  /** Writes the descriptors of `grpc.testing` to stdout. */
  readonly describe: string;
}

/** Builds grpc-go's interop client and server, once for each version. */
export async function buildGrpcGo(): Promise<GrpcGo> {
  const folder = cacheFolder(`grpc-go-${grpcVersion}`);
  copyFileSync(fileURLToPath(new URL("../go/main.go", import.meta.url)), join(folder, "main.go"));
  const programs = await build(
    folder,
    "interop",
    [`google.golang.org/grpc ${grpcVersion}`],
    [".", "google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server"],
  );
  return { client: join(programs, "client"), server: join(programs, "server"), describe: join(programs, "interop") };
}

/** Builds h2spec, once for each version, and returns its path. Its module names no versions of what it needs, so they stand here. */
export async function buildH2spec(): Promise<string> {
  const programs = await build(
    cacheFolder(`h2spec-${h2specVersion}`),
    "h2spec",
    [
      `github.com/summerwind/h2spec ${h2specVersion}`,
      "github.com/fatih/color v1.19.0",
      "github.com/spf13/cobra v1.10.2",
      "golang.org/x/net v0.62.0",
    ],
    ["github.com/summerwind/h2spec/cmd/h2spec"],
  );
  return join(programs, "h2spec");
}

/** Builds packages in a module of their own, so that each program gets the versions that are named here. */
async function build(
  folder: string,
  module: string,
  required: readonly string[],
  packages: readonly string[],
): Promise<string> {
  const programs = join(folder, "bin");
  if (existsSync(programs)) {
    return programs;
  }
  const requirements = required.map((line) => `require ${line}\n`).join("");
  writeFileSync(join(folder, "go.mod"), `module throughline/${module}\n\ngo 1.24.0\n\n${requirements}`);
  process.stdout.write(`building ${packages.join(", ")}; this takes minutes\n`);
  const partial = `${programs}.partial/`;
  const { code, errorCode, tail } = await runProgram("go", ["build", "-mod=mod", "-o", partial, ...packages], {
    cwd: folder,
    env: { GOWORK: "off", GOFLAGS: "" },
    timeoutMs: 1_200_000,
  });
  if (errorCode === "ENOENT") {
    throw new ToolMissingError("Go is not installed; it builds the suite from the Go module proxy");
  }
  if (code !== 0) {
    throw new Error(`go build failed in ${folder}:\n${tail}`);
  }
  renameSync(partial, programs);
  return programs;
}
