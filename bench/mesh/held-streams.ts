import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { quantile } from "../support/figures.js";
import { cpuSeconds, residentMiB, type Service } from "./processes.js";
import type { Tools } from "./rounds.js";
import type { System } from "./systems.js";

/** What streaming calls cost that are held open at one worker, and a cancel of all of them. */
export interface HeldStreams {
  readonly system: string;
  /** Calls that were made, over ten connections. */
  readonly streams: number;
  /** Calls that got their first event. */
  readonly withFirstEvent: number;
  /** Calls that ended before they were cancelled, by how they did. */
  readonly ends: Readonly<Record<string, number>>;
  /** Until the last first event, in milliseconds. */
  readonly lastFirstEventMs: number;
  /** Resident memory of each service, held against idle, for each call that was made. */
  readonly pipelineKiBPerStream: number;
  readonly workerKiBPerStream: number;
  /** A health check of the pipeline: idle, while the calls are held, and from the cancel until the services are quiet. */
  readonly healthIdle: Latency;
  readonly healthHeld: Latency;
  readonly healthDuringCancel: Latency;
  /** From the cancel until both services are quiet; null if they were not after 30 s. */
  readonly quietAfterMs: number | null;
  /** CPU time that the cancel cost both services, in seconds. */
  readonly cancelCpuSeconds: number;
}

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** A window is quiet when both services use at most this share of a core in it. */
const quietShare = 0.15;
const windowMs = 200;
/** Between two health checks: few enough in a window that they do not count as work. */
const pauseMs = 100;
/** Quiet windows in a row that count. */
const quietWindows = 3;

/** @param system with an engine that holds each image. */
export async function holdStreams({ load }: Tools, system: System, streams: number): Promise<HeldStreams> {
  const { pipeline, worker } = system;
  await holdFirst(load, system);
  const health = connect(system.url);
  await once(health, "connect");
  await pings(health, 20);
  await untilQuiet([pipeline, worker]);
  const healthIdle = latency(await pings(health, 30));
  const idle = [pipeline, worker].map((service) => residentMiB(service, "now"));

  const opened = load.reply("held");
  load.send({ kind: "hold", url: system.url, streams, connections: 10 });
  const { withEvent, ends, lastEventMs } = await opened;
  if (withEvent === 0) {
    throw new Error(`${system.name}: of ${streams} streaming calls none got an event: ${JSON.stringify(ends)}`);
  }
  await untilQuiet([pipeline, worker]);
  const perStream = [pipeline, worker].map((service, i) =>
    Math.round(((residentMiB(service, "now") - (idle[i] ?? 0)) * 1024) / streams),
  );
  const healthHeld = latency(await pings(health, 30));

  const cpuBefore = cpuSeconds(pipeline) + cpuSeconds(worker);
  const cancelled = load.reply("cancelled");
  load.send({ kind: "cancel" });
  let isOver = false;
  let answered = 0;
  const duringCancel = pings(
    health,
    Number.POSITIVE_INFINITY,
    () => isOver,
    () => answered++,
  );
  // Where a busy machine gives the services no time, they use none but are not done.
  const quietAfterMs = await untilQuiet([pipeline, worker], () => answered > 1);
  isOver = true;
  const cancelCpuSeconds = cpuSeconds(pipeline) + cpuSeconds(worker) - cpuBefore;
  const healthDuringCancel = latency(await duringCancel);
  await cancelled;
  health.destroy();
  return {
    system: system.name,
    streams,
    withFirstEvent: withEvent,
    ends,
    lastFirstEventMs: Math.round(lastEventMs),
    pipelineKiBPerStream: perStream[0] ?? Number.NaN,
    workerKiBPerStream: perStream[1] ?? Number.NaN,
    healthIdle,
    healthHeld,
    healthDuringCancel,
    quietAfterMs: quietAfterMs === undefined ? null : Math.round(quietAfterMs),
    cancelCpuSeconds: Number(cancelCpuSeconds.toFixed(2)),
  };
}

/** The pipeline connects to the worker with its first call, which a busy machine may make fail. */
async function holdFirst(load: Tools["load"], system: System): Promise<void> {
  for (let tries = 0; tries < 10; tries++) {
    const opened = load.reply("held");
    load.send({ kind: "hold", url: system.url, streams: 1, connections: 1 });
    const { withEvent } = await opened;
    const cancelled = load.reply("cancelled");
    load.send({ kind: "cancel" });
    await cancelled;
    if (withEvent === 1) {
      return;
    }
  }
  throw new Error(`${system.name} gave no event of a streaming call in ten tries`);
}

/** Milliseconds until the services do nothing any more; undefined where they still do after 30 s. */
async function untilQuiet(services: readonly Service[], mayBeQuiet = () => true): Promise<number | undefined> {
  const begunAt = performance.now();
  let quiet = 0;
  let quietSince = begunAt;
  while (performance.now() - begunAt < 30_000) {
    const windowAt = performance.now();
    const before = services.reduce((sum, service) => sum + cpuSeconds(service), 0);
    await delay(windowMs);
    const spent = services.reduce((sum, service) => sum + cpuSeconds(service), 0) - before;
    if (!mayBeQuiet() || spent > (quietShare * windowMs) / 1000) {
      quiet = 0;
    } else {
      quietSince = quiet === 0 ? windowAt : quietSince;
      quiet++;
    }
    if (quiet === quietWindows) {
      return quietSince - begunAt;
    }
  }
  return undefined;
}

/** Milliseconds of health checks, one after another with a pause between them. */
async function pings(
  session: ClientHttp2Session,
  count: number,
  isOver = () => false,
  onAnswer = () => {},
): Promise<number[]> {
  const taken: number[] = [];
  while (taken.length < count && !(isOver() && taken.length > 0)) {
    const begunAt = performance.now();
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    let status: unknown;
    stream.on("trailers", (trailers) => {
      status = trailers["grpc-status"];
    });
    stream.resume();
    stream.end(Buffer.alloc(5));
    await once(stream, "close");
    if (status !== "0") {
      throw new Error(`a health check ended with grpc-status ${status}`);
    }
    taken.push(performance.now() - begunAt);
    onAnswer();
    await delay(pauseMs);
  }
  return taken;
}

const latency = (taken: readonly number[]): Latency => ({
  p50Ms: Number(quantile(taken, 0.5).toFixed(1)),
  p99Ms: Number(quantile(taken, 0.99).toFixed(1)),
});
