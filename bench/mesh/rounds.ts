import { fromBinary } from "@bufbuild/protobuf";
import { GenerateResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { median } from "../support/figures.js";
import { imageBytes } from "./instant-encoder.js";
import type { LoadReply, LoadRequest } from "./load.js";
import { cpuSeconds, type Peer, resetPeak, residentMiB } from "./processes.js";
import type { SinkReply, SinkRequest } from "./sink.js";
import { ownName, plainName, type System } from "./systems.js";

export interface Tools {
  readonly load: Peer<LoadRequest, LoadReply>;
  readonly sink: Peer<SinkRequest, SinkReply>;
}

/** One system in one round at one concurrency. */
export interface Turn {
  readonly round: number;
  readonly concurrency: number;
  readonly system: string;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of pipeline and worker together. */
  readonly cpuSecondsPer1000: number;
  /** Of pipeline and worker together. */
  readonly peakRssMiB: number;
}

/** One row of the results: medians of the turns, but the largest peak; ratios are taken within each round. */
export interface Row extends Omit<Turn, "round"> {
  /** Median of the rounds' ratios of requests per second to the plain system on connect-node; null without that system. */
  readonly ratioToPlain: number | null;
  /** The lowest of these ratios. */
  readonly worstRatio: number | null;
  /** Median of the rounds' ratios of p99; above 1 is slower. */
  readonly p99RatioToPlain: number | null;
  /** The highest of these ratios. */
  readonly worstP99Ratio: number | null;
}

interface TurnOptions {
  readonly concurrency: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

/**
 * Measures one system, and waits until all its traces arrived.
 *
 * @throws Error when a call failed, an answer is wrong, or a trace is missing or not joined.
 */
export async function takeTurn(
  { load, sink }: Tools,
  system: System,
  { concurrency, warmUpMs, measureMs }: TurnOptions,
): Promise<Omit<Turn, "round">> {
  const services = [system.pipeline, system.worker];
  const cpu = () => services.reduce((sum, service) => sum + cpuSeconds(service), 0);
  services.forEach(resetPeak);
  const [measuring, measured, calls] = [load.reply("measuring"), load.reply("measured"), load.reply("calls")];
  load.send({ kind: "call", url: system.url, concurrency, warmUpMs, measureMs });
  await measuring;
  const cpuBefore = cpu();
  await measured;
  const cpuSpent = cpu() - cpuBefore;
  const result = await calls;
  const where = `${system.name} at concurrency ${concurrency}`;
  if (result.failed > 0 || result.measured === 0) {
    throw new Error(`${where}: ${result.failed} calls failed, ${result.total} did not: ${result.failure}`);
  }
  const { image, traceId } = fromBinary(GenerateResponseSchema, Buffer.from(result.response, "base64"));
  if (image?.url !== `data:image/png;base64,${imageBytes.toString("base64")}` || !/^[0-9a-f]{32}$/.test(traceId)) {
    throw new Error(`${where}: an answer has not the image that it should have, or no trace id`);
  }
  const traces = sink.reply("traces");
  sink.send({ system: system.name, traces: result.total, timeoutMs: 15_000 });
  const arrived = await traces;
  if (arrived.whole !== result.total || arrived.wrong.length > 0) {
    throw new Error(
      `${where}: of ${result.total} traces ${arrived.whole} arrived whole (${arrived.spans} spans); ${arrived.wrong.join("; ")}`,
    );
  }
  return {
    concurrency,
    system: system.name,
    requestsPerSecond: result.requestsPerSecond,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    cpuSecondsPer1000: (cpuSpent / result.measured) * 1000,
    peakRssMiB: services.reduce((sum, service) => sum + residentMiB(service, "peak"), 0),
  };
}

export interface RoundsOptions {
  readonly rounds: number;
  readonly concurrencies: readonly number[];
  readonly warmUpMs: number;
  readonly measureMs: number;
}

/** Warms all systems up and measures them in rounds, in an order that turns around with each round. */
export async function takeRounds(tools: Tools, systems: readonly System[], options: RoundsOptions): Promise<Turn[]> {
  const { rounds, concurrencies, warmUpMs, measureMs } = options;
  for (const concurrency of concurrencies) {
    for (const system of systems) {
      await takeTurn(tools, system, { concurrency, warmUpMs: 2000, measureMs: 1000 });
    }
  }
  const turns: Turn[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const concurrency of concurrencies) {
      for (const system of round % 2 === 0 ? systems : systems.toReversed()) {
        const turn = { round, ...(await takeTurn(tools, system, { concurrency, warmUpMs, measureMs })) };
        turns.push(turn);
        process.stderr.write(
          `round ${round + 1}  ${concurrency}  ${system.name}  ${turn.requestsPerSecond.toFixed(0)}/s\n`,
        );
      }
    }
  }
  return turns;
}

type Measure = "requestsPerSecond" | "p99Ms";

/** Ratios of one system to another, round by round. */
function ratios(turns: readonly Turn[], concurrency: number, of: string, to: string, measure: Measure): number[] {
  const at = turns.filter((turn) => turn.concurrency === concurrency);
  return at
    .filter(({ system }) => system === of)
    .flatMap((turn) => {
      const base = at.find(({ system, round }) => system === to && round === turn.round);
      return base === undefined ? [] : [turn[measure] / base[measure]];
    });
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

/** What a list of ratios comes to: its median and its worst; null for none. */
function summary(values: readonly number[], worst: (...values: number[]) => number) {
  return values.length === 0
    ? { median: null, worst: null }
    : { median: round(median(values), 3), worst: round(worst(...values), 3) };
}

export function rowsOf(turns: readonly Turn[]): Row[] {
  const concurrencies = [...new Set(turns.map(({ concurrency }) => concurrency))];
  const systems = [...new Set(turns.map(({ system }) => system))];
  return concurrencies.flatMap((concurrency) =>
    systems.map((system) => {
      const own = turns.filter((turn) => turn.concurrency === concurrency && turn.system === system);
      const middle = (measure: Exclude<keyof Turn, "system">, digits: number) =>
        round(median(own.map((turn) => turn[measure])), digits);
      const rate = summary(ratios(turns, concurrency, system, plainName, "requestsPerSecond"), Math.min);
      const tail = summary(ratios(turns, concurrency, system, plainName, "p99Ms"), Math.max);
      return {
        concurrency,
        system,
        requestsPerSecond: middle("requestsPerSecond", 1),
        p50Ms: middle("p50Ms", 2),
        p99Ms: middle("p99Ms", 2),
        cpuSecondsPer1000: middle("cpuSecondsPer1000", 3),
        peakRssMiB: round(Math.max(...own.map(({ peakRssMiB }) => peakRssMiB)), 0),
        ratioToPlain: rate.median,
        worstRatio: rate.worst,
        p99RatioToPlain: tail.median,
        worstP99Ratio: tail.worst,
      };
    }),
  );
}

/** This checkout against another version of ours. */
export interface Comparison {
  readonly concurrency: number;
  readonly to: string;
  /** Median of the rounds' ratios of requests per second: this checkout to the other version. */
  readonly ratio: number | null;
  readonly worstRatio: number | null;
  readonly p99Ratio: number | null;
}

export function comparisonsOf(turns: readonly Turn[]): Comparison[] {
  const others = [...new Set(turns.map(({ system }) => system))].filter((name) => name.startsWith(`${ownName}:`));
  const concurrencies = [...new Set(turns.map(({ concurrency }) => concurrency))];
  return others.flatMap((to) =>
    concurrencies.map((concurrency) => {
      const rate = summary(ratios(turns, concurrency, ownName, to, "requestsPerSecond"), Math.min);
      const tail = summary(ratios(turns, concurrency, ownName, to, "p99Ms"), Math.max);
      return { concurrency, to, ratio: rate.median, worstRatio: rate.worst, p99Ratio: tail.median };
    }),
  );
}
