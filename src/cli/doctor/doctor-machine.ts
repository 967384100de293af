import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { describeBytes, type Finding, fine, warning, wrong } from "./doctor-finding.js";

/** The least version of Node that the package is made for. */
const leastNode = { major: 20, minor: 19 };

/** Processor, memory, Node and onnxruntime of this machine, as this process may use them. */
export async function examineMachine(): Promise<readonly Finding[]> {
  return [examineNode(process.versions.node), await examineCores(), examineMemory(), await examineRuntime()];
}

export function examineNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const old = major < leastNode.major || (major === leastNode.major && minor < leastNode.minor);
  const found = `${version} on ${process.platform} ${process.arch}`;
  return old
    ? wrong("node", found, `install Node ${leastNode.major}.${leastNode.minor} or newer`)
    : fine("node", found);
}

async function examineCores(): Promise<Finding> {
  const usable = availableParallelism();
  const quota = await readCpuQuota();
  const found = `${usable} of ${cpus().length}`;
  if (quota !== undefined && quota < usable) {
    const threads = Math.max(1, Math.floor(quota));
    return warning(
      "cores",
      `${found}, of which the control group gives the time of ${quota}`,
      `start the worker with --threads ${threads}: more threads than that stand still most of the time`,
    );
  }
  return fine("cores", found);
}

/** Processors' worth of time that the control group (version 2) may use; undefined where it has no limit. */
async function readCpuQuota(): Promise<number | undefined> {
  const text = await readFile("/sys/fs/cgroup/cpu.max", "utf8").catch(() => "");
  const [quota, period] = text.split(" ").map(Number);
  return quota !== undefined && period !== undefined && quota > 0 && period > 0 ? quota / period : undefined;
}

/** Bytes that this process may still take. */
export function availableMemory(): number {
  return process.availableMemory?.() ?? freemem();
}

function examineMemory(): Finding {
  // 0, or more than there is, where nothing limits the process.
  const limit = process.constrainedMemory?.() ?? 0;
  const total = limit > 0 && limit < totalmem() ? limit : totalmem();
  return fine("memory", `${describeBytes(availableMemory())} free of ${describeBytes(total)}`);
}

async function examineRuntime(): Promise<Finding> {
  try {
    const { describeRuntime } = await import("../../engine/sessions-onnx.js");
    const { version, providers } = describeRuntime();
    const list = providers.map(({ name, bundled }) => (bundled ? name : `${name} (to be installed)`)).join(", ");
    return fine("onnxruntime", `${version} with ${list}`);
  } catch (error) {
    const found = error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : String(error);
    return wrong(
      "onnxruntime",
      `cannot be loaded: ${found}`,
      "onnxruntime-node has builds for Linux and Windows on x64 and arm64 and for macOS on arm64, with glibc: run npm ci on such a machine",
    );
  }
}
