import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import test, { type TestContext } from "node:test";
import { createPipelineClient } from "../../src/client/client.js";
import { canary, createRandom, type MalformedRequest, malformedRequest } from "../support/malformed-requests.js";
import type { MeshReport } from "../support/mesh-process.js";
import { testProgram } from "../support/test-program.js";

/** A prefix of the same requests on a developer's machine, all of them in CI. */
const total = process.env["THOROUGH"] === "1" ? 10_000 : 2_500;
const atOnce = 16;

test(`${total} malformed requests get the code of their class and leak nothing in either service`, async (t) => {
  const mesh = await startMesh(t);
  const send = createSender(t, mesh);
  const random = createRandom(20_261_122);
  // The first of each class warms up code and connections; the base is taken after them.
  for (let i = 0; i < 200; i++) {
    await check(malformedRequest(random, i), send);
  }
  await generateOne(mesh.pipelineUrl);
  const base = { files: mesh.openFiles(), liveBytes: (await mesh.report()).liveBytes };

  let next = 200;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < total) {
        await check(malformedRequest(random, next++), send);
      }
    }),
  );

  await generateOne(mesh.pipelineUrl);
  send.close();
  const after = await mesh.filesDownTo(base.files);
  const { log, spans, liveBytes } = await mesh.report();
  t.diagnostic(
    `open files ${base.files} → ${after}, live memory ${mebibytes(base.liveBytes)} → ${mebibytes(liveBytes)} MiB`,
  );
  assert.ok(after <= base.files, "files stay open");
  // The report itself holds every span and log line of the run.
  assert.ok(liveBytes - spans.length - log.length < base.liveBytes + 64 * 2 ** 20, "memory grows");
  assert.ok(spans.includes("image-pipeline"));
  assert.ok(!log.includes(canary), "the canary is in the log");
  assert.ok(!spans.includes(canary), "the canary is on a span");
});

async function generateOne(baseUrl: string): Promise<void> {
  const { image } = await createPipelineClient({ baseUrl }).generate({ prompt: "a red heart" });
  assert.match(image?.url ?? "", /^data:image\/png/);
}

const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);

interface Answer {
  readonly code: string;
  readonly body: string;
}

async function check(request: MalformedRequest, send: (request: MalformedRequest) => Promise<Answer>): Promise<void> {
  const { code, body } = await send(request).catch((error: unknown) => {
    throw new Error(`${request.kind}: ${error}`, { cause: error });
  });
  assert.ok(
    request.expected.includes(code),
    `${request.kind}: expected ${request.expected.join(" or ")}, got ${code}: ${body}`,
  );
  if (!undecodable.has(request.kind)) {
    assert.ok(!body.includes(canary), `${request.kind}: the answer quotes the request: ${body}`);
  }
}

/** Requests that get Connect's own error, which may quote them to their sender. */
const undecodable: ReadonlySet<string> = new Set([
  "wrong JSON type",
  "prompt of a wrong type",
  "unknown enum name",
  "broken JSON",
  "bytes for JSON",
  "key given twice",
]);

async function startMesh(t: TestContext) {
  const child = fork(testProgram("../support/mesh-process", import.meta.url), {
    execArgv: [...process.execArgv, "--expose-gc"],
  });
  t.after(() => child.kill("SIGKILL"));
  const [urls] = (await once(child, "message")) as [{ pipelineUrl: string; workerUrl: string }];
  const report = async (): Promise<MeshReport> => {
    child.send("report");
    const [answer] = (await once(child, "message")) as [MeshReport];
    return answer;
  };
  /** 0 where the system has no /proc. */
  const openFiles = () => (process.platform === "linux" ? readdirSync(`/proc/${child.pid}/fd`).length : 0);
  return {
    ...urls,
    report,
    openFiles,
    /** The number of open files once it is at the base again, or what it stays at. Sockets close in the turns between two reports. */
    async filesDownTo(base: number) {
      for (let i = 0; i < 100 && openFiles() > base; i++) {
        await report();
      }
      return openFiles();
    },
  };
}

function createSender(t: TestContext, mesh: { pipelineUrl: string; workerUrl: string }) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: atOnce });
  const session = http2.connect(mesh.workerUrl);
  const close = () => {
    agent.destroy();
    session.destroy();
  };
  t.after(close);

  const overHttp1 = (request: MalformedRequest) =>
    new Promise<Answer>((resolve, reject) => {
      const { httpMethod: method, path, body } = request;
      const headers = { ...request.headers, "content-length": body.length };
      const call = http.request(new URL(mesh.pipelineUrl), { agent, method, path, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          const code = /"code":"(\w+)"/.exec(text)?.[1];
          resolve({ code: [response.statusCode, code].filter(Boolean).join(" "), body: text });
        });
      });
      call.on("error", reject);
      call.end(body);
    });

  const overGrpc = (request: MalformedRequest) =>
    new Promise<Answer>((resolve, reject) => {
      const stream = session.request({ ":method": "POST", ":path": request.path, ...request.headers });
      let status: string | undefined;
      let message = "";
      const read = (headers: http2.IncomingHttpHeaders) => {
        if (headers["grpc-status"] !== undefined) {
          status = String(headers["grpc-status"]);
          message = decodeURIComponent(String(headers["grpc-message"] ?? ""));
        }
      };
      stream.on("response", read);
      stream.on("trailers", read);
      stream.on("error", reject);
      stream.resume();
      stream.on("close", () => resolve({ code: status ?? "no status", body: message }));
      stream.end(request.body);
    });

  const send = (request: MalformedRequest) => (request.protocol === "http1" ? overHttp1(request) : overGrpc(request));
  return Object.assign(send, { close });
}
