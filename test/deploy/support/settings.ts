import assert from "node:assert/strict";
import { pipelineOptions, workerOptions } from "../../../src/cli/options/command-options.js";
import { parseOptions } from "../../../src/cli/options/option.js";
import { telemetryVariables } from "../../../src/trace/telemetry/environment.js";
import { withVariables } from "../../cli/support/run-in-process.js";

/** Variables of libraries that a service's settings may have too. */
const ofLibraries = new Set([
  "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_EC2_METADATA_DISABLED",
  "AWS_REGION",
  "HF_HOME",
  "HF_TOKEN",
]);

/** Parses arguments and variables of a container as its service does. @throws AssertionError for a setting that nothing reads. */
export function readSettings(args: readonly string[], variables: Readonly<Record<string, string>>) {
  const [command, ...flags] = args;
  const options = { pipeline: pipelineOptions, worker: workerOptions }[command ?? ""];
  assert.ok(options, `no service: ${args.join(" ")}`);
  const known = new Set([
    ...Object.values(options).map(({ envVar }) => envVar),
    ...Object.keys(telemetryVariables),
    ...ofLibraries,
  ]);
  assert.deepEqual(
    Object.keys(variables).filter((name) => !known.has(name)),
    [],
    `settings that ${command} does not have`,
  );
  const { host, port, grace, metricsPort, ...others } = withVariables(variables, () => parseOptions(options, flags));
  const kedaPort = "kedaPort" in others ? others.kedaPort : undefined;
  return { host, port, grace, metricsPort, kedaPort };
}
