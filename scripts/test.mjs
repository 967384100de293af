// Runs the tests: npm test -- [FILE or FOLDER ...] [options of node --test]. --coverage adds a report; so does COVERAGE=1.
import { readdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compiledTests, compileTests } from "./compile-tests.mjs";
import { runNode } from "./run-node.mjs";
import { shareProcesses } from "./share-processes.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Node 20 takes no globs, and not every shell has them. */
function testsIn(folder) {
  return readdirSync(`${root}/${folder}`, { recursive: true })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
    .sort();
}

/** Files that start the programs many times over, a sixth of the time of all: they run where they are named, and with THOROUGH=1. */
const slow = new Set([
  "test/cli/demo.test.ts",
  "test/cli/hub-model.test.ts",
  "test/cli/proxies.test.ts",
  "test/cli/register.test.ts",
  "test/cli/services.test.ts",
  "test/examples/upscaler-process.test.ts",
  "test/getting-started.test.ts",
]);
/** Each file alone shows what a test leaves to the next one: CI runs them so. */
const isThorough = process.env["THOROUGH"] === "1";

const compiledName = (file) => file.replace(/^test\/(.*)\.ts$/, `${compiledTests}/$1.js`);

const asked = process.argv.slice(2);
const coverage = asked.includes("--coverage") || process.env["COVERAGE"] === "1";
const options = asked.filter((word) => word.startsWith("-") && word !== "--coverage");
const paths = asked.filter((word) => !word.startsWith("-")).map((path) => path.replaceAll("\\", "/"));
const all = isThorough ? testsIn("test") : testsIn("test").filter((file) => !slow.has(file));
const files = (paths.length === 0 ? all : paths).flatMap((path) => {
  const found = statSync(`${root}/${path}`, { throwIfNoEntry: false });
  return found?.isDirectory() ? testsIn(path.replace(/\/+$/, "")) : [path];
});

const missing = files.filter((file) => statSync(`${root}/${file}`, { throwIfNoEntry: false }) === undefined);
if (missing.length > 0 || files.length === 0) {
  process.stderr.write(`npm test: no tests at ${(missing.length > 0 ? missing : paths).join(", ")}\n`);
  process.exit(1);
}
if (coverage && Number(process.versions.node.split(".")[0]) < 24) {
  process.stderr.write(`npm test: coverage needs Node 24 or newer; this is ${process.versions.node}\n`);
  process.exit(1);
}

// Coverage is of the sources, and who watches changes the sources.
const fromSource = coverage || options.includes("--watch");
const loader = fromSource ? ["--conditions=throughline-source", "--import", "tsx"] : [];
if (!fromSource) {
  await compileTests();
}
/** Node runs the files in the order of their names: these first, because they wait more than others. */
const sharedFolder = `${compiledTests}/_shared`;
const modules = () => (isThorough ? files.map(compiledName) : shareProcesses(root, files, compiledName, sharedFolder));
runNode([
  ...loader,
  "--enable-source-maps",
  "--test",
  // The same for every release of Node, on a terminal and off it, with what failed at the end.
  ...(options.some((option) => option.startsWith("--test-reporter")) ? [] : ["--test-reporter=spec"]),
  "--test-concurrency=3",
  "--test-timeout=600000",
  ...(coverage
    ? ["--experimental-test-coverage", "--test-coverage-include=src/**", "--test-coverage-exclude=src/gen/**"]
    : []),
  ...options,
  ...(fromSource ? files : await modules()),
]);
