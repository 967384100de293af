import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const execute = promisify(execFile);

/** An empty project in which the package is installed, with the files of `stranger/`. */
export interface StrangerProject {
  readonly folder: string;
  /** Runs a command there, without the environment of this process. Gives its stdout. @throws Error with its output. */
  run(command: string, ...args: readonly string[]): Promise<string>;
  remove(): Promise<void>;
}

/**
 * Makes the project without a network: the package is what the tarball holds, and beside it lie only the dependencies that it declares,
 * so that an import of anything else fails.
 *
 * @param unpacked folder of the unpacked tarball.
 */
export async function makeStrangerProject(unpacked: string): Promise<StrangerProject> {
  const folder = await mkdtemp(join(tmpdir(), "throughline-stranger-"));
  const packages = join(folder, "node_modules");
  await cp(new URL("stranger", import.meta.url), folder, { recursive: true });
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "stranger", private: true, type: "module" }));
  await cp(unpacked, join(packages, "throughline"), { recursive: true });
  const { dependencies, bin } = JSON.parse(await readFile(join(unpacked, "package.json"), "utf8"));
  for (const name of [...Object.keys(dependencies), "@types/node"]) {
    await mkdir(dirname(join(packages, name)), { recursive: true });
    await symlink(join(root, "node_modules", name), join(packages, name));
  }
  await mkdir(join(packages, ".bin"));
  await symlink(join("..", "throughline", bin.throughline), join(packages, ".bin", "throughline"));
  // As npm does with what it links there.
  await chmod(join(packages, "throughline", bin.throughline), 0o755);
  return {
    folder,
    async run(command, ...args) {
      const options = { cwd: folder, env: { PATH: process.env["PATH"], HOME: folder }, maxBuffer: 2 ** 26 };
      try {
        return (await execute(command, args, options)).stdout;
      } catch (error) {
        const { stdout, stderr } =
          error instanceof Error && "stdout" in error && "stderr" in error ? error : { stdout: "", stderr: error };
        throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}\n${stderr}`);
      }
    },
    remove: () => rm(folder, { recursive: true }),
  };
}
