import { type Environment, telemetryVariables } from "../../trace/telemetry/environment.js";
import type { CommandContext } from "../command.js";
import { visitCommands } from "../commands.js";
import { supervisedVariable } from "../services/service-process.js";
import { appOptions } from "./command-options.js";
import { nearestName, type UnknownVariable } from "./nearest-name.js";
import type { OptionGroup } from "./option.js";

/** Variables of this project that are not options of a command. */
const otherVariables = [...Object.keys(telemetryVariables), supervisedVariable];

/** Warns on stderr of each `THROUGHLINE_*` variable that nothing reads, with the nearest name that exists. */
export function warnOfUnknownVariables({ environment, stderr }: Pick<CommandContext, "environment" | "stderr">): void {
  for (const { name, nearest } of unknownVariables(environment)) {
    if (name.startsWith("THROUGHLINE_")) {
      const advice = nearest === undefined ? "docs/settings.md lists them all" : `did you mean ${nearest}?`;
      stderr.write(`throughline: the variable ${name} has no effect: there is no such setting (${advice})\n`);
    }
  }
}

/** Variables that begin with `THROUGHLINE_` or `OTEL_`, and that nothing reads. The latter may be those of other programs. */
export function unknownVariables(environment: Environment): readonly UnknownVariable[] {
  const known = knownVariables();
  return Object.keys(environment)
    .filter((name) => /^(?:THROUGHLINE|OTEL)_/.test(name) && !known.has(name))
    .map((name) => ({ name, nearest: nearestName(name, known) }));
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
