import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { startNameServer } from "./support/name-server.js";
import { runHere } from "./support/run-here.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));

/** onnxruntime as it comes: it looks a host up some ten seconds after it has loaded a graph. */
const untouched = `require("onnxruntime-node").InferenceSession.create(process.env.GRAPH);
process.stdin.resume();`;

/**
 * Neither `demo` nor a `dev` that stays looks up a name: the name server of their namespace is never asked. What onnxruntime would do of its
 * own is seen beside them, by another name server, so that they are known to have run long enough.
 */
export async function quietDemo(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "throughline-faults-"));
  const ours = await startNameServer("127.0.0.53", folder);
  const other = await startNameServer("127.0.0.54", folder);
  const graph = join(await makeSdxlFolder(join(folder, "model")), "vae_decoder/model.onnx");
  const environment = { ...process.env, HOME: folder, ORT_DISABLE_TELEMETRY: "", GRAPH: graph };
  const started: ChildProcess[] = [];
  const start = (command: string, ...args: readonly string[]) => {
    const child = spawn(command, args, { cwd: root, env: environment, stdio: ["pipe", "pipe", "inherit"] });
    started.push(child);
    return child;
  };
  const throughline = (...args: readonly string[]) =>
    start(process.execPath, ...process.execArgv, "src/cli/main.ts", ...args);
  await runHere("mount", "--bind", ours.configuration, "/etc/resolv.conf");
  try {
    await run(process.execPath, ["--eval", 'require("node:dns").lookup("asked.invalid", () => {})']);
    assert.ok(ours.asked.includes("asked.invalid"), "a look-up does not reach the name server: none would be seen");
    ours.forget();

    const ports = ["--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];
    const dev = throughline("dev", "--jobs", join(folder, "jobs"), "--device", "cpu", "--json", ...ports);
    const [ready] = await once(dev.stdout, "data");
    assert.match(String(ready), /"kind":"ready"/);
    const entered = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
    start("unshare", "--mount", "sh", "-c", entered, other.configuration, process.execPath, "--eval", untouched);
    await other.whenAsked(/\.microsoft\.com$/);

    const image = join(folder, "heart.png");
    const demo = throughline("demo", "a red heart", "--steps", "2", "--device", "cpu", "--out", image);
    assert.match((await demo.stdout.setEncoding("utf8").toArray()).join(""), /^image-pipeline /m);
    dev.kill("SIGTERM");
    const [code] = await once(dev, "exit");
    assert.equal(code, 0);
    assert.deepEqual(ours.asked, []);
  } finally {
    for (const child of started) {
      child.kill("SIGKILL");
    }
    await runHere("umount", "/etc/resolv.conf");
    ours.close();
    other.close();
    await rm(folder, { recursive: true });
  }
}
