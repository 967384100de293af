import { casePattern, shortPatterns } from "./case-pattern.js";

/** Cases that fail for one reason. */
export interface KnownFailure {
  /** Why they fail, in lines of a comment. A reason that begins with `Flaky:` allows the cases to pass, too. */
  readonly reason: string;
  /** Patterns of {@link casePattern}. */
  readonly patterns: readonly string[];
}

/** What a case came to. */
export interface Outcome {
  readonly name: string;
  /** Absent where the case passed. */
  readonly error?: string;
}

/** How the outcomes of a target differ from its list. */
export interface Comparison {
  readonly passed: number;
  readonly known: number;
  /** Failures that the list does not have. */
  readonly unexpected: readonly Outcome[];
  /** Cases that pass though the list has them. */
  readonly surprises: readonly string[];
  /** Patterns that match no case. */
  readonly unused: readonly string[];
}

/** The reason that `--update` writes above failures nobody has looked at. A list that holds it is not accepted. */
export const unexplained = "No reason yet.";

/**
 * Reads a list: comment lines are a reason, the lines after it its patterns; empty lines are ignored. This is also the form that the
 * conformance runner reads.
 *
 * @throws Error where a pattern has no reason.
 */
export function parseKnownFailures(text: string): KnownFailure[] {
  const groups: { reason: string[]; patterns: string[] }[] = [];
  for (const line of text.split("\n").map((each) => each.trim())) {
    const group = groups.at(-1);
    if (line.startsWith("#")) {
      const words = line.replace(/^#\s*/, "");
      if (group === undefined || group.patterns.length > 0) {
        groups.push({ reason: [words], patterns: [] });
      } else {
        group.reason.push(words);
      }
    } else if (line !== "") {
      if (group === undefined) {
        throw new Error(`the pattern ${line} has no reason: write a comment line above it`);
      }
      group.patterns.push(line);
    }
  }
  return groups.map(({ reason, patterns }) => ({ reason: reason.join("\n"), patterns }));
}

/** Writes a list in the form that {@link parseKnownFailures} reads. */
export function formatKnownFailures(failures: readonly KnownFailure[]): string {
  return failures
    .map(({ reason, patterns }) => [...reason.split("\n").map((line) => `# ${line}`), ...patterns, ""].join("\n"))
    .join("\n");
}

/** Compares what the cases came to with the list. */
export function compareOutcomes(outcomes: readonly Outcome[], list: readonly KnownFailure[]): Comparison {
  const entries = list.flatMap((each) => each.patterns.map((pattern) => ({ ...matcher(each, pattern), pattern })));
  const failing = outcomes.filter(({ error }) => error !== undefined);
  const passing = outcomes.filter(({ error }) => error === undefined).map(({ name }) => name);
  const unexpected = failing.filter(({ name }) => !entries.some(({ matches }) => matches(name)));
  return {
    passed: passing.length,
    known: failing.length - unexpected.length,
    unexpected,
    surprises: passing.filter((name) => entries.some(({ matches, flaky }) => !flaky && matches(name))),
    unused: entries.filter(({ matches }) => !outcomes.some(({ name }) => matches(name))).map(({ pattern }) => pattern),
  };
}

/**
 * Makes the list fit the outcomes. A pattern stays where all cases that it matches fail; else patterns of those that still fail take its
 * place, under its reason. Failures that no reason covers come last, under {@link unexplained}.
 */
export function updateKnownFailures(outcomes: readonly Outcome[], list: readonly KnownFailure[]): KnownFailure[] {
  const passing = outcomes.filter(({ error }) => error === undefined).map(({ name }) => name);
  let left = outcomes.filter(({ error }) => error !== undefined).map(({ name }) => name);
  const updated: KnownFailure[] = [];
  for (const failure of list.filter(({ reason }) => reason !== unexplained)) {
    const patterns: string[] = [];
    for (const pattern of failure.patterns) {
      const { matches, flaky } = matcher(failure, pattern);
      const matched = left.filter(matches);
      if (flaky ? outcomes.some(({ name }) => matches(name)) : matched.length > 0) {
        patterns.push(...(flaky || !passing.some(matches) ? [pattern] : shortPatterns(matched, passing)));
      }
      left = left.filter((name) => !matches(name));
    }
    updated.push({ reason: failure.reason, patterns });
  }
  updated.push({ reason: unexplained, patterns: shortPatterns(left, passing) });
  return updated.filter(({ patterns }) => patterns.length > 0);
}

/** Cases that fail here and pass there, but for those that a list has as flaky. */
export function worseThan(
  here: readonly Outcome[],
  there: readonly Outcome[],
  lists: readonly KnownFailure[],
): readonly string[] {
  const flaky = lists
    .flatMap((each) => each.patterns.map((pattern) => matcher(each, pattern)))
    .filter((each) => each.flaky);
  const passing = new Set(there.filter(({ error }) => error === undefined).map(({ name }) => name));
  return here
    .filter(({ name, error }) => error !== undefined && passing.has(name))
    .map(({ name }) => name)
    .filter((name) => !flaky.some(({ matches }) => matches(name)));
}

function matcher({ reason }: KnownFailure, pattern: string) {
  return { matches: casePattern(pattern), flaky: reason.startsWith("Flaky:") };
}
