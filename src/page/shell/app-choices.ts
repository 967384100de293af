import type { Model } from "../../contracts/contracts.js";

/** A worker app that can be chosen. */
export interface AppChoice {
  readonly appId: string;
  /** Name of its model; empty for an unknown one. */
  readonly model: string;
}

/** The apps of the service, the default one first, with the names of their models. */
export function appsOf(offered: readonly string[], models: readonly Model[]): readonly AppChoice[] {
  const names = new Map(models.map(({ workerApp, name }) => [workerApp, name]));
  return [...new Set([...offered, ...names.keys()])].map((appId) => ({ appId, model: names.get(appId) ?? "" }));
}
