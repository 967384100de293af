import { telemetryVariables } from "../../trace/telemetry/environment.js";
import type { CommandContext } from "../command.js";
import { visitCommands } from "../commands.js";
import { supervisedVariable } from "../services/service-process.js";
import { appOptions } from "./command-options.js";
import type { OptionGroup } from "./option.js";

/** Variables of this project that are not options of a command. */
const otherVariables = [...Object.keys(telemetryVariables), supervisedVariable];

/** Warns on stderr of each `THROUGHLINE_*` variable that nothing reads, with the nearest name that exists. */
export function warnOfUnknownVariables({ environment, stderr }: Pick<CommandContext, "environment" | "stderr">): void {
  const known = knownVariables();
  for (const name of Object.keys(environment)) {
    if (name.startsWith("THROUGHLINE_") && !known.has(name)) {
      const nearest = nearestName(name, known);
      const advice = nearest === undefined ? "docs/settings.md lists them all" : `did you mean ${nearest}?`;
      stderr.write(`throughline: the variable ${name} has no effect: there is no such setting (${advice})\n`);
    }
  }
}

function knownVariables(): ReadonlySet<string> {
  const known = new Set(otherVariables);
  const add = (options: OptionGroup): void => {
    for (const { envVar } of Object.values(options)) {
      if (envVar !== undefined) {
        known.add(envVar);
      }
    }
  };
  visitCommands(({ options }) => add(options));
  add(appOptions(0));
  return known;
}

/** The name with the fewest edits, if they are at most a third of its letters. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let fewest = Math.ceil((name.length - "THROUGHLINE_".length) / 3);
  for (const candidate of known) {
    const edits = editDistance(name, candidate);
    if (edits <= fewest && (nearest === undefined || edits < fewest)) {
      [nearest, fewest] = [candidate, edits];
    }
  }
  return nearest;
}

/** Levenshtein distance: insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substituted));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
