/**
 * What the mesh costs a request under load: ours, and the same two services written plainly on connect-node and on grpc-js, in turns.
 * bench/README.md says what is compared. Linux only: it reads /proc.
 *
 *     npm run bench:mesh -- [--rounds 5] [--seconds 2.5] [--concurrency 1,16,64] [--systems throughline,connect-node,grpc-js]
 *         [--ours DIR]… [--streams 1000] [--note TEXT] [--quick]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import packageJson from "../../package.json" with { type: "json" };
import { type HeldStreams, holdStreams } from "./held-streams.js";
import type { LoadReply, LoadRequest } from "./load.js";
import { compilePrograms, startPeer } from "./processes.js";
import { writeResults } from "./results.js";
import { comparisonsOf, rowsOf, takeRounds } from "./rounds.js";
import type { SinkReply, SinkRequest } from "./sink.js";
import { otherVersion, repository, startSystem, systemKind } from "./systems.js";

const { values } = parseArgs({
  options: {
    rounds: { type: "string" },
    seconds: { type: "string" },
    concurrency: { type: "string" },
    systems: { type: "string", default: "throughline,connect-node,grpc-js" },
    ours: { type: "string", multiple: true, default: [] },
    streams: { type: "string" },
    note: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
  },
});
const { quick } = values;

/** @throws Error that names the option. */
function positive(option: string, text: string, least: number): number {
  const value = Number(text);
  if (text === "" || !(value >= least)) {
    throw new Error(`--${option} takes numbers from ${least} on, not "${text}"`);
  }
  return value;
}

const options = {
  rounds: positive("rounds", values.rounds ?? (quick ? "1" : "5"), 1),
  concurrencies: (values.concurrency ?? (quick ? "16" : "1,16,64"))
    .split(",")
    .map((text) => positive("concurrency", text, 1)),
  warmUpMs: 500,
  measureMs: 1000 * positive("seconds", values.seconds ?? (quick ? "1" : "2.5"), 0.1),
};
const streams = positive("streams", values.streams ?? (quick ? "100" : "1000"), 0);
const wanted = [
  ...values.systems.split(",").map((name) => ({ name, kind: systemKind(name) })),
  ...values.ours.map(otherVersion),
];

await compilePrograms();
const logs = mkdtempSync(join(tmpdir(), "bench-mesh-"));
process.once("exit", () => rmSync(logs, { recursive: true, force: true }));
const sink = startPeer<SinkRequest, SinkReply>("sink", [repository, ...wanted.map(({ name }) => name), "held"]);
const { endpoints } = await sink.reply("listening");
const load = startPeer<LoadRequest, LoadReply>("load");
const tools = { load, sink };

const systems = [];
for (const { name, kind } of wanted) {
  systems.push(await startSystem(name, kind, { endpoint: endpoints[name] ?? "", logs }));
}
const turns = await takeRounds(tools, systems, options);
for (const system of systems) {
  system.stop();
}

const held: HeldStreams[] = [];
if (streams > 0) {
  for (const { name, kind } of wanted) {
    if ("own" in kind) {
      const system = await startSystem(name, kind, { endpoint: endpoints["held"] ?? "", logs, hold: true });
      held.push(await holdStreams(tools, system, streams));
      system.stop();
    }
  }
}

const dependencies: Readonly<Record<string, string>> = { ...packageJson.dependencies, ...packageJson.devDependencies };
const shown = [
  "@connectrpc/connect",
  "@connectrpc/validate",
  "@grpc/grpc-js",
  "@opentelemetry/exporter-trace-otlp-grpc",
];
await writeResults(
  {
    versions: Object.fromEntries(shown.map((name) => [name, dependencies[name] ?? ""])),
    note: values.note,
    rounds: options.rounds,
    secondsOfATurn: options.measureMs / 1000,
    rows: rowsOf(turns),
    comparisons: comparisonsOf(turns),
    streams: held,
    turns,
  },
  { keep: !quick },
);
process.exit(0);
