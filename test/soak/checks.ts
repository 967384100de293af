import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Kill } from "./faults.js";
import type { FailedCall, Seen } from "./load.js";
import type { System } from "./system.js";

/** Time after a worker's death in which its streams notice it, in milliseconds. */
const noticedMs = 5_000;

/** Why a call failed. `mid-stream`: its worker was killed after the first event, so that nobody could repeat the call. */
export function classify({ kind, code, events, startedAt, endedAt }: FailedCall, kills: readonly Kill[]) {
  const wasKilled = kills.some(({ at }) => at >= startedAt && at <= endedAt && endedAt - at <= noticedMs);
  return kind === "stream" && code === "UNAVAILABLE" && events > 0 && wasKilled ? "mid-stream" : "unexpected";
}

/** Acknowledged jobs at the end of a run. */
export interface JobsAtEnd {
  /** Without a row, or not succeeded, with what they are. */
  readonly lost: readonly string[];
  /** Request ids with several rows, and jobs with another number of images than one. */
  readonly duplicates: readonly string[];
  /** Jobs whose image the engine generated to its end more than once, with the number. */
  readonly generatedAgain: readonly string[];
  /** Jobs that took more than one attempt. */
  readonly repeated: number;
  readonly rows: number;
}

/**
 * Compares the jobs that clients know with the database, the image folder and the engines.
 *
 * A job may run again, because its worker or its pipeline was lost: attempts are at least once. Its result is one: one row, one end, one image.
 */
export async function checkJobs(system: System, { jobs }: Pick<Seen, "jobs">): Promise<JobsAtEnd> {
  const rows = await system.query(
    "select replace(id::text, '-', ''), request_id, state, attempt, outcome is not null from throughline.job",
  );
  const found = new Map<string, { readonly id: string; readonly state: string; readonly attempt: number }[]>();
  for (const [id = "", requestId = "", state = "", attempt, hasOutcome] of rows.map((row) => row.split("|"))) {
    const entry = { id, state: hasOutcome === "t" ? state : `${state} without an outcome`, attempt: Number(attempt) };
    found.set(requestId, [...(found.get(requestId) ?? []), entry]);
  }
  const all = [...found.values()].flat();
  const lost = [...jobs].flatMap(([requestId, id]) => {
    const job = found.get(requestId)?.find((each) => each.id === id);
    return job?.state === "3" ? [] : [`${requestId}: ${job === undefined ? "no row" : `state ${job.state}`}`];
  });
  const severalRows = [...found].filter(([, each]) => each.length > 1).map(([requestId]) => `${requestId}: rows`);
  const severalImages = all.flatMap(({ id, state }) => {
    const images = state === "3" ? imagesOf(join(system.images, "jobs", id)) : 1;
    return images === 1 ? [] : [`${id}: ${images} images`];
  });
  const generatedAgain = [...system.generations()]
    .filter(([prompt, count]) => prompt.startsWith("job ") && count > 1)
    .map(([prompt, count]) => `${prompt}: ${count} times`);
  return {
    lost,
    duplicates: [...severalRows, ...severalImages],
    generatedAgain,
    repeated: all.filter(({ attempt }) => attempt > 1).length,
    rows: all.length,
  };
}

function imagesOf(folder: string): number {
  try {
    return readdirSync(folder).filter((name) => name.endsWith(".png")).length;
  } catch {
    return 0;
  }
}
