// Puts test files that start no programs into processes that several of them share: half of the time of a small file goes into loading.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";

/** More would leave a core idle at the end. */
const filesPerProcess = 12;

/** Hooks outside of suites would run for all files of the process. */
const hasOwnHooks = /^(?:before|after)(?:Each)?\(/m;
/** Most of the time is that of its programs, so that it gains little. */
const startsPrograms = /support\/run-command\.js"/;
/** PGlite changes how its process compiles WebAssembly. */
const hasDatabase = /support\/job-(?:mesh|database)\.js"|^import .*"\.\/suites\//m;

/**
 * Modules to run: each runs a file, or several of one folder of `test/`.
 *
 * @param root of the checkout.
 * @param files paths below `test/`.
 * @param compiledName the path of a file's compiled module, from the root.
 * @param folder takes the modules that import several files, from the root.
 */
export async function shareProcesses(root, files, compiledName, folder) {
  const alone = [];
  const shared = new Map();
  for (const file of files) {
    const text = await readFile(join(root, file), "utf8");
    const part = /^test\/(\w[\w-]*)\//.exec(file)?.[1] ?? "test";
    if ([hasOwnHooks, startsPrograms, hasDatabase].some((pattern) => pattern.test(text))) {
      alone.push(compiledName(file));
    } else {
      shared.set(part, [...(shared.get(part) ?? []), compiledName(file)]);
    }
  }
  await mkdir(join(root, folder), { recursive: true });
  const modules = [];
  for (const [part, names] of shared) {
    const processes = Math.ceil(names.length / filesPerProcess);
    for (let number = 0; number < processes; number++) {
      const own = names.filter((_, index) => Math.floor((index * processes) / names.length) === number);
      const path = `${folder}/${part}-${number + 1}.js`;
      const imports = own.map((name) => `import ${JSON.stringify(posix.relative(folder, name))};\n`);
      await writeFile(join(root, path), imports.join(""));
      modules.push(path);
    }
  }
  return [...modules, ...alone];
}
