import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { GoMissingError, installSuite } from "./support/install-suite.js";
import {
  compareOutcomes,
  formatKnownFailures,
  type Outcome,
  parseKnownFailures,
  unexplained,
  updateKnownFailures,
  worseThan,
} from "./support/known-failures.js";
import { runSuite, type Target } from "./support/run-suite.js";

/** What is tested, and others' implementations beside it, which say what can be reached. */
const targets: readonly Target[] = [
  { name: "server", mode: "server", config: "server.yaml" },
  { name: "balanced", mode: "client", config: "client.yaml" },
  { name: "grpc-js", mode: "client", config: "client.yaml" },
  { name: "connect-node", mode: "client", config: "client.yaml" },
];

/** Each of ours beside the one that it must not be worse than. */
const references: Record<string, string> = { balanced: "grpc-js" };

const mostShown = 20;
const print = (line: string) => process.stdout.write(`${line}\n`);

const listFile = (name: string) => fileURLToPath(new URL(`known/${name}.txt`, import.meta.url));
const readList = (name: string) =>
  parseKnownFailures(existsSync(listFile(name)) ? readFileSync(listFile(name), "utf8") : "");

/** Compares a target's outcomes with its list, or makes the list anew. Returns whether they agree. */
function check(name: string, outcomes: readonly Outcome[], update: boolean): boolean {
  const file = listFile(name);
  let list = readList(name);
  if (update) {
    list = updateKnownFailures(outcomes, list);
    writeFileSync(file, formatKnownFailures(list));
  }
  const { passed, known, unexpected, surprises, unused } = compareOutcomes(outcomes, list);
  print(`${name}: ${passed} of ${outcomes.length} (${known} known)`);
  const wrong = [
    ...unexpected.map((each) => `new failure: ${each.name}: ${each.error}`),
    ...surprises.map((each) => `passes, though the list has it: ${each}`),
    ...unused.map((pattern) => `the pattern matches no case: ${pattern}`),
    ...(list.some(({ reason }) => reason === unexplained) ? [`write the reasons that are missing into ${file}`] : []),
  ];
  for (const line of wrong.slice(0, mostShown)) {
    print(`  ${line}`);
  }
  if (wrong.length > mostShown) {
    print(`  and ${wrong.length - mostShown} more`);
  }
  return wrong.length === 0;
}

function compareWithReferences(results: ReadonlyMap<string, readonly Outcome[]>): void {
  for (const [name, reference] of Object.entries(references)) {
    const ours = results.get(name);
    const theirs = results.get(reference);
    if (ours !== undefined && theirs !== undefined) {
      // What passes by turns with either says nothing of which one is better.
      const lists = [...readList(name), ...readList(reference)];
      const worse = worseThan(ours, theirs, lists);
      print(`${name}: ${worse.length} cases fail that pass with ${reference}, flaky ones aside`);
    }
  }
}

async function main(args: readonly string[]): Promise<boolean> {
  const update = args.includes("--update");
  const names = args.filter((arg) => arg !== "--update");
  const unknown = names.find((name) => !targets.some((target) => target.name === name));
  if (unknown !== undefined) {
    throw new Error(`there is no target ${unknown}; there are ${targets.map(({ name }) => name).join(", ")}`);
  }
  const suite = installSuite();
  // The programs import code that is generated only now, so `npm run typecheck` leaves them out.
  const tsc = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));
  const project = fileURLToPath(new URL("tsconfig.json", import.meta.url));
  if (spawnSync(process.execPath, [tsc, "-p", project], { stdio: "inherit" }).status !== 0) {
    return false;
  }
  const results = new Map<string, readonly Outcome[]>();
  let agree = true;
  for (const target of targets.filter(({ name }) => names.length === 0 || names.includes(name))) {
    const outcomes = await runSuite(suite, target);
    results.set(target.name, outcomes);
    agree = check(target.name, outcomes, update) && agree;
  }
  compareWithReferences(results);
  return agree;
}

try {
  process.exitCode = (await main(process.argv.slice(2))) ? 0 : 1;
} catch (error) {
  if (!(error instanceof GoMissingError)) {
    throw error;
  }
  print(`skipped: ${error.message}. Go builds the suite; install it from https://go.dev/dl/ to run these tests.`);
}
