import { access, constants, stat } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import { createVariableReader, type Environment } from "../../trace/telemetry/environment.js";
import { readSpanExport } from "../../trace/telemetry/spans.js";
import { messageOf } from "../errors.js";
import { readCpuQuota, threadsOf } from "../services/model.js";
import { createProxyFetch } from "../services/proxies.js";
import { describeBytes, type Finding, fine, warning, wrong } from "./doctor-findings.js";

/** The least version of Node that the package is made for. */
const leastNode = { major: 20, minor: 19 };

/** Processor, memory, Node and onnxruntime of this machine, as this process may use them. */
export async function checkMachine(): Promise<readonly Finding[]> {
  return [checkNode(process.versions.node), await checkCores(), checkMemory(), await checkRuntime()];
}

export function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const old = major < leastNode.major || (major === leastNode.major && minor < leastNode.minor);
  const found = `${version} on ${process.platform} ${process.arch}`;
  return old
    ? wrong("node", found, `install Node ${leastNode.major}.${leastNode.minor} or newer`)
    : fine("node", found);
}

async function checkCores(): Promise<Finding> {
  const found = `${availableParallelism()} of ${cpus().length}`;
  const [quota, threads] = [await readCpuQuota(), await threadsOf(0)];
  return fine("cores", threads === undefined ? found : `${found}; ${threads} threads by the CPU quota of ${quota}`);
}

/** Bytes that this process may still take. */
export function availableMemory(): number {
  return process.availableMemory?.() ?? freemem();
}

function checkMemory(): Finding {
  // 0, or more than there is, where nothing limits the process.
  const limit = process.constrainedMemory?.() ?? 0;
  const total = limit > 0 && limit < totalmem() ? limit : totalmem();
  return fine("memory", `${describeBytes(availableMemory())} free of ${describeBytes(total)}`);
}

async function checkRuntime(): Promise<Finding> {
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

const patienceMs = 3000;

/** Whether a service can open its port. One that is taken does not keep this machine from generation. */
export async function checkPort(service: string, host: string, port: number): Promise<Finding> {
  const name = `${service} port`;
  const failure = await new Promise<string | undefined>((done) => {
    const server = createServer();
    server.once("error", (error) => done("code" in error && error.code === "EADDRINUSE" ? "in use" : error.message));
    server.listen(port, host, () => server.close(() => done(undefined)));
  });
  return failure === undefined
    ? fine(name, port === 0 ? "any free one" : `${port} is free`)
    : warning(
        name,
        `${host}:${port}: ${failure}`,
        "fine where the service runs already; else give it another port, or 0 for any",
      );
}

/** Whether anything listens where traces are sent. @throws TelemetryConfigError when a variable holds nonsense. */
export async function checkCollector(environment: Environment): Promise<Finding> {
  const config = readSpanExport(createVariableReader(environment, { warn() {} }));
  if (config === undefined) {
    return fine("collector", "none: OTEL_EXPORTER_OTLP_ENDPOINT is not set, and traces are made but not exported");
  }
  const url = new URL(config.url);
  const port = Number(url.port) || (config.secure ? 443 : 80);
  const failure = await tryToConnect(url.hostname.replace(/^\[|\]$/g, ""), port);
  const place = `${url.protocol}//${url.hostname}:${port}`;
  return failure === undefined
    ? fine("collector", `${place} is reachable (${config.protocol})`)
    : warning(
        "collector",
        `${place} is not reachable: ${failure}`,
        "start it (throughline collector is a small one) or correct OTEL_EXPORTER_OTLP_ENDPOINT; images are generated without it, and their traces are lost",
      );
}

function tryToConnect(host: string, port: number): Promise<string | undefined> {
  return new Promise((done) => {
    const socket = connect({ host, port });
    const end = (failure: string | undefined): void => {
      socket.destroy();
      done(failure);
    };
    socket.setTimeout(patienceMs, () => end(`no answer within ${patienceMs / 1000} s`));
    socket.once("connect", () => end(undefined));
    socket.once("error", (error) => end("code" in error ? String(error.code) : error.message));
  });
}

/** Whether images can be written to the folder, or the folder can be made. */
export async function checkImageStore(folder: string | undefined): Promise<Finding> {
  if (folder === undefined) {
    return fine("image store", "none: images travel as data: URIs");
  }
  const path = resolve(folder);
  const place = await nearestExisting(path);
  try {
    if (!(await stat(place)).isDirectory()) {
      throw new Error(`${place} is no folder`);
    }
    await access(place, constants.W_OK | constants.X_OK);
    return fine("image store", place === path ? `${path} is writable` : `${path} will be made`);
  } catch (error) {
    const found = messageOf(error);
    return warning("image store", found, "let this user write there, or name another folder with --images");
  }
}

async function nearestExisting(path: string): Promise<string> {
  const exists = await access(path).then(
    () => true,
    () => false,
  );
  return exists || dirname(path) === path ? path : nearestExisting(dirname(path));
}

/** Whether the Hugging Face Hub answers, through the proxy that downloads would go through. */
export async function checkHub(endpoint: string, environment: Environment): Promise<Finding> {
  try {
    const send = (await createProxyFetch(environment)) ?? fetch;
    const response = await send(new URL(`${endpoint}/api/models?limit=1`), {
      method: "GET",
      headers: new Headers(),
      redirect: "follow",
      signal: AbortSignal.timeout(patienceMs),
    });
    await response.body?.cancel();
    if (!response.ok) {
      throw new Error(`it answers ${response.status}`);
    }
    return fine("hub", `${endpoint} is reachable`);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const found = messageOf(cause);
    return warning(
      "hub",
      `${endpoint} is not reachable: ${found}`,
      "models that are in the cache, and folders, work without it; set HF_ENDPOINT for a mirror",
    );
  }
}
