import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { grpcStatusName } from "../../src/otelconnect/errors.js";
import type { System } from "./system.js";

/** A call that failed. */
export interface FailedCall {
  readonly kind: "unary" | "stream";
  readonly code: string;
  readonly message: string;
  /** Events that came before the failure: after the first one, a call cannot be repeated elsewhere. */
  readonly events: number;
  /** By `performance.now()`. */
  readonly startedAt: number;
  readonly endedAt: number;
}

/** What the clients saw. */
export interface Seen {
  calls: number;
  readonly failed: FailedCall[];
  /** Ids of the acknowledged jobs by their request id. */
  readonly jobs: Map<string, string>;
  /** CreateJob's failures that a repetition with the same request id mended, by code. */
  readonly repeated: Map<string, number>;
  /** Requests that were never acknowledged. */
  readonly unacknowledged: string[];
  /** Jobs that were watched to their end, and their final states by name. */
  readonly watched: Map<string, number>;
  /** Watches that ended before, and were begun again. */
  rewatched: number;
  /** Requests that were left out, because too many were under way. */
  skipped: number;
  readonly latencies: number[];
}

/** Most requests under way: a system that stands still is not flooded when it goes on. */
const mostRunning = 500;
const callTimeoutMs = 60_000;
/** Time for which a client repeats CreateJob, in milliseconds. */
const acknowledgeMs = 120_000;
const repeatAfterMs = 500;
const watchedShare = 10;

/** Starts clients that send as many requests in each second as they are told: a quarter unary calls, a quarter streams, half jobs. */
export function startLoad({ pipelines }: Pick<System, "pipelines">, perSecond: number) {
  const seen: Seen = {
    calls: 0,
    failed: [],
    jobs: new Map(),
    repeated: new Map(),
    unacknowledged: [],
    watched: new Map(),
    rewatched: 0,
    skipped: 0,
    latencies: [],
  };
  const running = new Set<Promise<void>>();
  const count = (counts: Map<string, number>, key: string) => void counts.set(key, (counts.get(key) ?? 0) + 1);
  const pipelineOf = (index: number) => pipelines[Math.floor(index / 4) % pipelines.length] ?? pipelines[0];
  let sent = 0;
  let rate = perSecond;

  const call = async (index: number, kind: FailedCall["kind"]): Promise<void> => {
    const pipeline = pipelineOf(index);
    const startedAt = performance.now();
    let events = 0;
    let images = 0;
    seen.calls++;
    try {
      const request = { prompt: `call ${index}` };
      if (kind === "unary") {
        const { image } = (await pipeline?.calls.generate(request, { timeoutMs: callTimeoutMs })) ?? {};
        images += image?.fileName === "" ? 0 : 1;
      } else {
        for await (const { event } of pipeline?.calls.generateStream({ request }, { timeoutMs: callTimeoutMs }) ?? []) {
          events++;
          images += event.case === "result" ? 1 : 0;
        }
      }
      if (images !== 1) {
        throw new Error(`${images} images`);
      }
      seen.latencies.push(performance.now() - startedAt);
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      const failure = { kind, code: grpcStatusName(code), message: rawMessage, events, startedAt };
      seen.failed.push({ ...failure, endedAt: performance.now() });
    }
  };

  const createJob = async (index: number): Promise<void> => {
    const requestId = `job ${index}`;
    const until = performance.now() + acknowledgeMs;
    for (let attempt = 0; ; attempt++) {
      try {
        const request = { work: { case: "generate", value: { prompt: requestId } }, requestId } as const;
        const response = await pipelineOf(index + 4 * attempt)?.jobs.createJob(request, { timeoutMs: callTimeoutMs });
        const id = response?.job?.id ?? "";
        seen.jobs.set(requestId, id);
        if (index % watchedShare === 1) {
          await watchJob(index, id);
        }
        return;
      } catch (error) {
        const { code } = ConnectError.from(error);
        if (code !== Code.Unavailable || performance.now() > until) {
          seen.unacknowledged.push(`${requestId}: ${String(error)}`);
          return;
        }
        count(seen.repeated, grpcStatusName(code));
        await delay(repeatAfterMs);
      }
    }
  };

  const watchJob = async (index: number, id: string): Promise<void> => {
    for (let attempt = 0; ; attempt++) {
      try {
        let state = JobState.UNSPECIFIED;
        for await (const { job } of pipelineOf(index + 4 * attempt)?.jobs.watchJob({ id }) ?? []) {
          state = job?.state ?? state;
        }
        count(seen.watched, JobState[state]);
        return;
      } catch (error) {
        if (ConnectError.from(error).code !== Code.Unavailable || attempt > 100) {
          count(seen.watched, String(error));
          return;
        }
        seen.rewatched++;
        await delay(repeatAfterMs);
      }
    }
  };

  const send = (): void => {
    const index = sent++;
    if (running.size >= mostRunning) {
      seen.skipped++;
      return;
    }
    const request = index % 2 === 1 ? createJob(index) : call(index, index % 4 === 0 ? "unary" : "stream");
    running.add(request);
    void request.finally(() => running.delete(request));
  };

  let startedAt = performance.now();
  let due = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    due += ((now - startedAt) / 1000) * rate;
    startedAt = now;
    for (; due >= 1; due--) {
      send();
    }
  }, 10);

  return {
    seen,
    setRate(next: number) {
      rate = next;
    },
    get running() {
      return running.size;
    },
    /** Requests so far. */
    get sent() {
      return sent;
    },
    /** Sends no more, and waits for the rest. */
    async stop(): Promise<void> {
      clearInterval(timer);
      await Promise.all(running);
    },
  };
}
