import { grpcGoClient } from "./grpc-go-client.js";
import { grpcGoServer } from "./grpc-go-server.js";
import { h2spec } from "./h2spec.js";
import { knownFailures } from "./known-failures.js";
import { pythonGrpcio } from "./python-grpcio.js";
import { pythonGrpcioJobs } from "./python-grpcio-jobs.js";
import { classifyCases } from "./support/classify-cases.js";
import { ToolMissingError } from "./support/part.js";

/**
 * Runs the interoperability suites of foreign implementations, and fails on each case that fails or passes against the list. Arguments
 * choose the parts whose names contain one of them.
 */
const parts = [grpcGoClient, grpcGoServer, h2spec("h2c"), h2spec("TLS"), pythonGrpcio, pythonGrpcioJobs];
const chosen = process.argv.slice(2);
const print = (line: string) => process.stdout.write(`${line}\n`);

for (const part of parts.filter(({ name }) => chosen.length === 0 || chosen.some((word) => name.includes(word)))) {
  try {
    const { cases, comparison } = await part.run();
    const { passed, known, problems } = classifyCases(part.name, cases, knownFailures);
    print(`${part.name}: ${passed} of ${cases.length} passed, ${known} known failures, ${problems.length} problems`);
    if (comparison !== undefined) {
      print(`  ${comparison}`);
    }
    for (const problem of problems) {
      print(`  ${problem.split("\n").join("\n    ")}`);
      process.exitCode = 1;
    }
  } catch (error) {
    if (error instanceof ToolMissingError) {
      print(`${part.name}: skipped. ${error.message}`);
    } else {
      print(`${part.name}: could not run. ${error instanceof Error ? error.message : error}`);
      process.exitCode = 1;
    }
  }
}
