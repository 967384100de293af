import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import { registeredName } from "../mesh/grpc/registered-replicas.js";
import {
  createLeaseTable,
  deleteOldLeases,
  endLeases,
  type LeaseDatabase,
  leaseChannel,
  notifyLeases,
  readLeases,
  type SharedLease,
  writeLeases,
} from "./lease-table.js";
import { defaultMaxLeases, type Lease, type Leases } from "./leases.js";
import { createSerialWork } from "./serial-work.js";

/** Options of {@link shareLeases}. */
export interface ShareLeasesOptions {
  readonly leases: Leases;
  readonly database: LeaseDatabase;
  readonly logger: Pick<Logger, "info" | "warn">;
  /** Pause before a failed statement is tried again, in milliseconds. @default 1,000 */
  readonly retryMs?: number | undefined;
}

/** Sharing of a pipeline's leases with other pipelines. */
export interface LeaseSharing {
  /** Stops. The leases in the database last until their time is over: their workers register elsewhere, or here again. */
  close(): Promise<void>;
}

/** Longest pause before renewals are written, in milliseconds, so that those of many workers share a statement. */
const renewalDelayMs = 500;
/** Shortest pause between two reads, in milliseconds. */
const readPauseMs = 100;
/** Between two deletions of old rows, in milliseconds. */
const cleanupMs = 600_000;

/**
 * Share leases with the other pipelines of a database: write those of this process, and read those of the others at each of their
 * notifications, and at a third of a lease. Their time is over by the database's clock.
 *
 * While the database does not answer, the known leases stay. For the time of a lease after it answers again, leases stay that expired
 * meanwhile, because their pipelines could not renew them.
 *
 * @throws the driver's error if the table cannot be created or read.
 */
export async function shareLeases(options: ShareLeasesOptions): Promise<LeaseSharing> {
  const { leases, database, logger, retryMs = 1_000 } = options;
  const { sql } = database;
  const { leaseMs } = leases;
  const pipeline = randomBytes(8).toString("hex");
  /** Changes to be written: a lease, or its end. */
  let pending = new Map<string, { readonly lease: Lease; readonly hasEnded: boolean }>();
  let mustNotify = false;
  let known = new Map<string, SharedLease>();
  let isUnreachable = false;
  /** Until then, by `performance.now()`, expired leases stay. */
  let graceUntil = 0;
  let isClosed = false;

  const answered = (): void => {
    if (isUnreachable) {
      isUnreachable = false;
      graceUntil = performance.now() + leaseMs;
      logger.info("the registry's database answers again");
    }
  };
  const failed = (error: unknown): void => {
    if (!isUnreachable && !isClosed) {
      logger.warn({ err: error }, "the registry's database does not answer: the known workers stay");
    }
    isUnreachable = true;
  };

  const write = async (): Promise<void> => {
    const taken = pending;
    const hasChange = mustNotify;
    pending = new Map();
    mustNotify = false;
    const all = [...taken.values()];
    const [live, ended] = [false, true].map((hasEnded) =>
      all.filter((change) => change.hasEnded === hasEnded).map(({ lease }) => lease),
    );
    try {
      if (live !== undefined && live.length > 0) {
        await writeLeases(sql, pipeline, live, leaseMs);
      }
      if (ended !== undefined && ended.length > 0) {
        await endLeases(sql, pipeline, ended);
      }
      if (hasChange) {
        await notifyLeases(sql, pipeline);
      }
      answered();
    } catch (error) {
      // Newer changes win.
      pending = new Map([...taken, ...pending]);
      mustNotify ||= hasChange;
      throw error;
    }
  };

  const read = async (): Promise<void> => {
    const rows = await readLeases(sql, pipeline, 2 * defaultMaxLeases);
    answered();
    const hasGrace = performance.now() < graceUntil;
    const ended = new Set(rows.filter(({ state }) => state === "ended").map(keyOf));
    const live = rows.filter(({ state }) => state === "live").slice(0, defaultMaxLeases);
    // Two pipelines may share a worker, of which one has ended its lease.
    const kept = hasGrace ? [...known.values()].filter((lease) => !ended.has(keyOf(lease))) : [];
    known = new Map([...kept, ...live].map((lease) => [keyOf(lease), lease]));
    leases.setShared([...known.values()], [...new Set(rows.map(({ appId }) => appId))]);
  };

  const writer = createSerialWork({ work: write, onFailed: failed, retryMs, isClosed: () => isClosed });
  const reader = createSerialWork({ work: read, onFailed: failed, retryMs, isClosed: () => isClosed });

  await createLeaseTable(database);
  await read();
  await database.listen(
    leaseChannel,
    (from) => {
      if (from !== pipeline) {
        reader.runWithin(readPauseMs);
      }
    },
    () => reader.runWithin(readPauseMs),
  );
  const note = (lease: Lease, hasEnded: boolean, isChange: boolean): void => {
    pending.set(keyOf(lease), { lease, hasEnded });
    mustNotify ||= isChange;
    writer.runWithin(isChange ? 0 : renewalDelayMs);
  };
  const versions = new Map<string, string>();
  leases.onLease(({ kind, lease }) => {
    const key = keyOf(lease);
    const hasEnded = kind === "ended" || kind === "expired";
    const isChange = kind !== "renewed" || versions.get(key) !== lease.version;
    if (hasEnded) {
      versions.delete(key);
    } else {
      versions.set(key, lease.version);
    }
    note(lease, hasEnded, isChange);
  });
  for (const lease of leases.own) {
    versions.set(keyOf(lease), lease.version);
    note(lease, false, true);
  }
  const timers = [
    setInterval(() => reader.runWithin(0), leaseMs / 3),
    setInterval(() => void deleteOldLeases(sql).catch(failed), cleanupMs),
  ];
  for (const timer of timers) {
    timer.unref();
  }
  return {
    async close() {
      isClosed = true;
      timers.forEach(clearInterval);
      await Promise.all([writer.close(), reader.close()]);
    },
  };
}

function keyOf(lease: Lease): string {
  return `${lease.appId} ${registeredName(lease)}`;
}
