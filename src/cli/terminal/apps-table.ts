import type { AppStatus } from "../../mesh/directory/app-connections.js";
import type { WorkerStatus } from "../../mesh/grpc/connection.js";
import { printable } from "../../studio/trace-text.js";

/** A worker with what is known of it: always its health, and the figures of whoever calls it. */
export type ListedWorker = Pick<WorkerStatus, "address" | "health"> & Partial<WorkerStatus>;

/** An app of the list. */
export interface ListedApp extends Omit<AppStatus, "workers"> {
  readonly workers: readonly ListedWorker[];
}

const healthWords: Record<WorkerStatus["health"], string> = {
  connecting: "no answer yet",
  serving: "serving",
  refusing: "draining or not ready",
  down: "down",
};

const heads = ["APP", "WORKER", "HEALTH", "IN FLIGHT", "OF OTHERS", "A CALL", "WAIT"];

/** The apps as a table for a terminal, one line a worker; without figures where nobody told any. */
export function renderApps(apps: readonly ListedApp[]): string {
  const hasFigures = apps.some(({ workers }) => workers.some(({ inFlight }) => inFlight !== undefined));
  const columns = hasFigures ? heads.length : 3;
  const rows = [heads, ...apps.flatMap(rowsOf)].map((row) => row.slice(0, columns));
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

function rowsOf({ appId, target, isDefault, workers }: ListedApp): string[][] {
  const name = `${printable(appId)}${isDefault ? " (default)" : ""}`;
  if (workers.length === 0) {
    return [[name, printable(target), "no address known"]];
  }
  return workers.map((worker) => [name, printable(worker.address), healthOf(worker), ...figuresOf(worker)]);
}

function healthOf({ health, ejected, refusesForMs = 0 }: ListedWorker): string {
  const full = refusesForMs > 0 ? `, full for ${seconds(refusesForMs)}` : "";
  return `${healthWords[health]}${ejected ? ", left out" : ""}${full}`;
}

function figuresOf({ inFlight, others, serviceMs, expectedWaitMs }: ListedWorker): string[] {
  return [String(inFlight ?? ""), String(others ?? ""), seconds(serviceMs), seconds(expectedWaitMs)];
}

function seconds(ms: number | null | undefined): string {
  return ms === null || ms === undefined ? "?" : `${(ms / 1000).toFixed(1)} s`;
}
