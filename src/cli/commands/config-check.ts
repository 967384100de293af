import type { CommandContext, RestOfCommandLine } from "../command.js";
import { checkCollector, checkDev, checkPipeline, checkWorker } from "../config-check/check-roles.js";
import { describeUnknown } from "../config-check/check-variables.js";
import { createProblems, type Problems } from "../config-check/problems.js";
import { exitCodes, usageError } from "../errors.js";
import {
  collectorOptions,
  type configCheckOptions,
  devOptions,
  pipelineOptions,
  workerOptions,
} from "../options/command-options.js";
import { nearestOf, type UnknownVariable } from "../options/nearest-name.js";
import { type OptionGroup, type OptionValues, parseAllOptions } from "../options/option.js";
import type { SettingProblem } from "../options/setting-problem.js";
import { createTextStyle, jsonLine, type TextStyle } from "../terminal/terminal.js";

type CheckSettings<Group extends OptionGroup> = (
  settings: OptionValues<Group>,
  context: CommandContext,
  problems: Problems,
) => Promise<readonly SettingProblem[]>;

const jsonFlag = "--json";

/** What was found about a role. */
interface RoleReport {
  readonly role: string;
  /** A start would fail, or would not do what is configured. */
  readonly problems: readonly SettingProblem[];
  /** Worth knowing; nothing is wrong. */
  readonly warnings: readonly SettingProblem[];
  /** Whether the role's own flags ask for JSON. */
  readonly json: boolean;
}

type CheckRole = (
  given: { readonly argv: readonly string[]; readonly unknownVariables: readonly UnknownVariable[] },
  context: CommandContext,
) => Promise<RoleReport>;

/** Checks a role with the options of its command. */
function roleOf<Group extends OptionGroup>(role: string, group: Group, check: CheckSettings<Group>): CheckRole {
  return async ({ argv, unknownVariables }, context) => {
    const problems = createProblems();
    const {
      values,
      problems: wrong,
      unknown,
    } = parseAllOptions(
      group,
      argv.filter((argument) => argument !== jsonFlag),
    );
    const flags = Object.values(group).flatMap(({ long }) => long ?? []);
    problems.add(wrong);
    // A text behind an unknown flag is probably its value.
    const isValue = (index: number) => !unknown[index]?.startsWith("-") && unknown[index - 1]?.startsWith("-") === true;
    problems.add(unknown.filter((_, index) => !isValue(index)).map((argument) => unknownArgument(argument, flags)));
    const variables = describeUnknown(unknownVariables);
    problems.add(variables.problems);
    const warnings = await check(values, context, problems);
    return {
      role,
      problems: problems.found,
      warnings: [...warnings, ...variables.warnings],
      json: argv.includes(jsonFlag),
    };
  };
}

function unknownArgument(argument: string, flags: readonly string[]): SettingProblem {
  const [flag = ""] = argument.split("=", 1);
  const nearest = nearestOf(flag, flags, flag.length - 2);
  const isFlag = flag.startsWith("-");
  return {
    setting: isFlag ? flag : "the command line",
    problem: isFlag ? "is no flag of this command" : "has a text that belongs to no flag",
    remedy: nearest === undefined ? "remove it; docs/settings.md lists all flags" : `did you mean ${nearest}?`,
  };
}

const roles: Readonly<Record<string, CheckRole>> = {
  pipeline: roleOf("pipeline", pipelineOptions, checkPipeline),
  worker: roleOf("worker", workerOptions, checkWorker),
  dev: roleOf("dev", devOptions, checkDev),
  collector: roleOf("collector", collectorOptions, checkCollector),
};

/** Roles without an argument: those of a deployment. */
const defaultRoles = ["pipeline", "worker"];

/**
 * Checks flags, variables and files as the start of a service reads them, and reports all problems. It starts nothing, opens no port, writes
 * nothing, and makes no connection.
 */
export async function runConfigCheck(
  { json }: OptionValues<typeof configCheckOptions>,
  context: CommandContext,
  _argument: string,
  { args, unknownVariables }: RestOfCommandLine,
): Promise<number> {
  const { stdout, environment } = context;
  const [role, ...flags] = args;
  if (role !== undefined && !Object.hasOwn(roles, role)) {
    throw usageError(
      `config check takes ${Object.keys(roles).join(", ")}, and then the flags of that command; got ${JSON.stringify(role)}`,
    );
  }
  const reports: RoleReport[] = [];
  for (const name of role === undefined ? defaultRoles : [role]) {
    const report = await roles[name]?.({ argv: flags, unknownVariables: unknownVariables() }, context);
    reports.push(...(report === undefined ? [] : [report]));
  }
  const count = reports.reduce((sum, { problems }) => sum + problems.length, 0);
  const asJson = json || reports.some((report) => report.json);
  stdout.write(
    asJson
      ? jsonLine({ ok: count === 0, roles: reports.map(({ json: _json, ...report }) => report) })
      : reports.map((report) => describe(report, createTextStyle(stdout, environment))).join(""),
  );
  return count === 0 ? exitCodes.done : exitCodes.failed;
}

function describe({ role, problems, warnings }: RoleReport, style: TextStyle): string {
  const list = (mark: string, found: readonly SettingProblem[]) =>
    found.map(({ setting, problem, remedy }) => `${mark}  ${setting} ${problem}\n${" ".repeat(9)}→ ${remedy}\n`);
  const total = problems.length === 0 ? "no problem" : `${problems.length} problem${problems.length === 1 ? "" : "s"}`;
  return [
    `${style("bold", role)}: ${total}\n`,
    ...list(style("red", "WRONG  "), problems),
    ...list(style("yellow", "warning"), warnings),
  ].join("");
}
