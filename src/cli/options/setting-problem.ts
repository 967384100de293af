import { usageError } from "../errors.js";

/** What is wrong with a setting. Never its value if that may be a secret. */
export interface SettingProblem {
  /** Flags, variables or the file, such as `--tls-cert`. */
  readonly setting: string;
  /** Completes the setting to a sentence without a full stop: `needs --tls-key`. */
  readonly problem: string;
  /** What to do, in one sentence without a full stop. */
  readonly remedy: string;
}

/** @throws CliError (bad usage) that names all problems, one a line, if there are any. */
export function rejectProblems(problems: readonly SettingProblem[]): void {
  if (problems.length > 0) {
    throw usageError(problems.map(({ setting, problem }) => `${setting} ${problem}`).join("\n"));
  }
}

/** Those of a list that apply. */
export function problemsOf(
  rules: readonly (readonly [applies: boolean, setting: string, problem: string, remedy: string])[],
): readonly SettingProblem[] {
  return rules.flatMap(([applies, setting, problem, remedy]) => (applies ? [{ setting, problem, remedy }] : []));
}
