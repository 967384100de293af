import type { KnownFailure } from "../known-failures.js";
import type { CaseResult } from "./part.js";

/** The results of a part against the list of known failures. */
export interface Classified {
  readonly passed: number;
  readonly known: number;
  /** New failures, cases that pass against the list, and entries of the list without a case. */
  readonly problems: readonly string[];
}

/** Compares the results of a part with the list of known failures. */
export function classifyCases(part: string, cases: readonly CaseResult[], list: readonly KnownFailure[]): Classified {
  const known = new Map(list.filter((entry) => entry.part === part).map((entry) => [entry.name, entry]));
  const ran = new Set(cases.map(({ name }) => name));
  const failed = cases.filter(({ passed }) => !passed);
  return {
    passed: cases.length - failed.length,
    known: failed.filter(({ name }) => known.has(name)).length,
    problems: [
      ...failed.filter(({ name }) => !known.has(name)).map(({ name, detail }) => `FAILED ${name}: ${detail}`),
      ...cases
        .filter(({ name, passed }) => passed && known.has(name))
        .map(({ name }) => `PASSED ${name}, a known failure: remove it from test/interop/known-failures.ts`),
      ...[...known.keys()]
        .filter((name) => !ran.has(name))
        .map((name) => `ABSENT ${name}, a known failure without a case`),
    ],
  };
}
