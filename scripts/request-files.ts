// Prints the files that one unary Generate enters, in both services and the hop between them, by V8's coverage: how long a reader's way is.
//
//     node --conditions=throughline-source --import tsx scripts/request-files.ts [--list]
import { Session } from "node:inspector/promises";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { createTestMesh } from "../src/testing/create-test-mesh.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const mesh = await createTestMesh({ wire: "port" });
const generate = () => mesh.pipeline.generate({ prompt: "a red heart" });
// The first call connects, compiles rules and makes clients.
await generate();

const session = new Session();
session.connect();
await session.post("Profiler.enable");
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
await session.post("Profiler.takePreciseCoverage");
await generate();
const { result } = await session.post("Profiler.takePreciseCoverage");
session.disconnect();
await mesh.stop();

const entered = result
  .filter(({ url }) => url.startsWith("file:") && !url.includes("node_modules"))
  .filter(({ functions }) =>
    functions.some(({ functionName, ranges }) => functionName !== "" && ranges.some(({ count }) => count > 0)),
  )
  .map(({ url }) => relative(root, fileURLToPath(url)))
  .filter((file) => file.startsWith("src") && !file.startsWith("src/gen"))
  .toSorted();
process.stdout.write(`one unary Generate enters ${entered.length} files\n`);
if (process.argv.includes("--list")) {
  process.stdout.write(`${entered.join("\n")}\n`);
}
