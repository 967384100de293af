import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Tarball } from "./packed.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const execute = promisify(execFile);

/** An empty project in which a package is installed. */
export interface TestProject {
  readonly folder: string;
  /** Runs a command there, without the environment of this process. Gives its stdout. @throws Error with its output. */
  run(command: string, ...args: readonly string[]): Promise<string>;
  remove(): Promise<void>;
}

/**
 * Makes a project without a network: the package is what its tarball holds, and beside it are only the dependencies and peers that it
 * declares, so that an import of anything else fails.
 *
 * @param files folder below `projects/` with the project's files.
 * @param added packages that the project's own program uses.
 */
export async function makeTestProject(
  { name: packageName, folder: unpacked }: Tarball,
  files: string,
  added: readonly string[] = [],
): Promise<TestProject> {
  const folder = await mkdtemp(join(tmpdir(), "throughline-project-"));
  const packages = join(folder, "node_modules");
  await cp(new URL(`projects/${files}`, import.meta.url), folder, { recursive: true });
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "project", private: true, type: "module" }));
  await cp(unpacked, join(packages, packageName), { recursive: true });
  const manifest = JSON.parse(await readFile(join(unpacked, "package.json"), "utf8"));
  const { dependencies = {}, peerDependencies = {}, bin = {} } = manifest;
  const linked = new Set([...Object.keys(dependencies), ...Object.keys(peerDependencies), "@types/node", ...added]);
  for (const name of linked) {
    await mkdir(dirname(join(packages, name)), { recursive: true });
    await symlink(join(root, "node_modules", name), join(packages, name));
  }
  await mkdir(join(packages, ".bin"));
  for (const [command, path] of Object.entries<string>(bin)) {
    await symlink(join("..", packageName, path), join(packages, ".bin", command));
    // As npm does with what it links there.
    await chmod(join(packages, packageName, path), 0o755);
  }
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
