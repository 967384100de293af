import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { suite, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import * as grpc from "@grpc/grpc-js";
import { load } from "@grpc/proto-loader";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import type { Behaviour } from "../support/echo-services.js";
import { http1 } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const pipeline = "throughline.v1.ImagePipelineService";

suite("buf curl", () => {
  const schema = ["--schema", "proto", "--schema", "third_party/proto"];

  /** Runs `buf curl` and gives its exit status and output. */
  function bufCurl(args: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }> {
    return new Promise((resolve) => {
      execFile(`${root}node_modules/.bin/buf`, ["curl", ...args], { cwd: root }, (error, stdout, stderr) => {
        resolve({ status: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
      });
    });
  }

  for (const protocol of ["connect", "grpc", "grpcweb"]) {
    for (const [by, args] of [
      ["a schema", schema],
      ["reflection", []],
    ] as const) {
      test(`buf curl calls ${protocol} with ${by}`, async (t) => {
        const { url } = await serveEcho(t);
        const flags = ["--protocol", protocol, "--http2-prior-knowledge", ...args];
        const unary = await bufCurl([
          ...flags,
          "-d",
          '{"prompt":"a red heart","options":{"seed":7}}',
          `${url}/${pipeline}/Generate`,
        ]);
        assert.equal(unary.status, 0, unary.stderr);
        assert.equal(JSON.parse(unary.stdout).seed, 7);
        const stream = await bufCurl([
          ...flags,
          "-d",
          '{"request":{"prompt":"x"}}',
          `${url}/${pipeline}/GenerateStream`,
        ]);
        assert.equal(stream.status, 0, stream.stderr);
        assert.deepEqual(stream.stdout.match(/"(queued|progress|result)"/g), ['"queued"', '"progress"', '"result"']);
      });
    }

    test(`buf curl over ${protocol} shows a rejection with its details`, async (t) => {
      const { url } = await serveEcho(t);
      const flags = ["--protocol", protocol, "--http2-prior-knowledge", ...schema];
      const { status, stderr } = await bufCurl([...flags, "-d", "{}", `${url}/${pipeline}/Generate`]);
      assert.equal(status, 8 * Code.InvalidArgument);
      assert.match(stderr, /prompt: must be at least 1 characters[\s\S]*buf\.validate\.Violations/);
    });
  }

  test("buf curl calls over HTTP/1.1", async (t) => {
    const { url } = await serveEcho(t);
    const { status, stdout } = await bufCurl([...schema, "-d", '{"prompt":"x"}', `${url}/${pipeline}/Generate`]);
    assert.equal(status, 0);
    assert.equal(JSON.parse(stdout).model, "echo");
  });

  test("buf curl lists services and methods", async (t) => {
    const { url } = await serveEcho(t);
    const services = await bufCurl(["--http2-prior-knowledge", "--list-services", url]);
    assert.deepEqual(services.stdout.trim().split("\n"), [
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      pipeline,
      "throughline.v1.TextToImageWorkerService",
    ]);
    const methods = await bufCurl(["--http2-prior-knowledge", "--list-methods", url]);
    assert.match(methods.stdout, /throughline\.v1\.ImagePipelineService\/GenerateStream/);
  });
});

suite("grpc-js client with only the .proto files", () => {
  async function clientOf(t: TestContext, ...options: Parameters<typeof serveEcho>) {
    const { port } = await serveEcho(...options);
    const includeDirs = [`${root}proto`, `${root}third_party/proto`];
    const definition = await load("throughline/v1/pipeline.proto", { includeDirs, keepCase: true, enums: String });
    const service = definition[pipeline];
    assert.ok(service !== undefined && !("format" in service));
    const Client = grpc.makeGenericClientConstructor(service, pipeline);
    const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    t.after(() => client.close());
    return client;
  }
  type Client = Awaited<ReturnType<typeof clientOf>>;

  /** A unary call as a promise of its response, or of its error. */
  function generate(client: Client, request: object, options: grpc.CallOptions = {}) {
    return new Promise<{ response?: Record<string, unknown>; error?: grpc.ServiceError }>((resolve) => {
      const done = (error: grpc.ServiceError | null, response: Record<string, unknown>) =>
        resolve(error === null ? { response } : { error });
      client["generate"]?.(request, options, done);
    });
  }

  test("grpc-js client calls", async (t) => {
    const client = await clientOf(t, t);
    const { response } = await generate(client, {
      prompt: "\u{1f496}x",
      options: { width: 64, scheduler: "SCHEDULER_DDIM" },
    });
    assert.equal(response?.["model"], "echo");
    assert.deepEqual(Object(response?.["image"]).url, "echo:2");
  });

  test("grpc-js client streams", async (t) => {
    const client = await clientOf(t, t);
    const call: grpc.ClientReadableStream<object> = client["generateStream"]?.({ request: { prompt: "x" } });
    const events: string[] = [];
    for await (const message of call) {
      events.push(...Object.keys(message));
    }
    assert.deepEqual(events, ["queued", "progress", "result"]);
  });

  test("grpc-js client receives codes and details", async (t) => {
    const client = await clientOf(t, t);
    const { error } = await generate(client, { prompt: "" });
    assert.equal(error?.code, grpc.status.INVALID_ARGUMENT);
    assert.equal(error.details, "prompt: must be at least 1 characters");
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    assert.ok(Buffer.isBuffer(bytes));
    assert.match(bytes.toString("latin1"), /buf\.validate\.Violations/);
    const unknown = await new Promise<grpc.ServiceError | null>((resolve) => {
      const pass = (value: Buffer) => value;
      client.makeUnaryRequest(`/${pipeline}/Nope`, pass, pass, Buffer.alloc(0), resolve);
    });
    assert.equal(unknown?.code, grpc.status.UNIMPLEMENTED);
  });

  test("grpc-js client ends at its deadline", async (t) => {
    // The server's time is over before the client's.
    const behaviour: Behaviour = (_, { signal }) => once(signal, "abort").then(() => Promise.reject(signal.reason));
    const client = await clientOf(t, t, { behaviour });
    const { error } = await generate(client, { prompt: "x" }, { deadline: Date.now() + 100 });
    assert.equal(error?.code, grpc.status.DEADLINE_EXCEEDED);
  });

  test("grpc-js client's cancellation reaches the server", async (t) => {
    let began: () => void = () => {};
    const started = new Promise<void>((resolve) => {
      began = resolve;
    });
    let ended: (reason: unknown) => void = () => {};
    const reason = new Promise<unknown>((resolve) => {
      ended = resolve;
    });
    const client = await clientOf(t, t, {
      async behaviour(_, { signal }) {
        began();
        await once(signal, "abort");
        ended(signal.reason);
      },
    });
    const call: grpc.ClientReadableStream<object> = client["generateStream"]?.({ request: { prompt: "x" } });
    call.on("error", () => {});
    call.resume();
    await started;
    call.cancel();
    assert.equal(ConnectError.from(await reason).code, Code.Canceled);
  });

  test("grpc-js client sends compressed messages", async (t) => {
    const { port } = await serveEcho(t, { behaviour: (prompt) => assert.equal(prompt.length, 2_000) });
    const includeDirs = [`${root}proto`, `${root}third_party/proto`];
    const service = (await load("throughline/v1/pipeline.proto", { includeDirs }))[pipeline];
    assert.ok(service !== undefined && !("format" in service));
    const client = new (grpc.makeGenericClientConstructor(service, pipeline))(
      `127.0.0.1:${port}`,
      grpc.credentials.createInsecure(),
      { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip },
    );
    t.after(() => client.close());
    const { error } = await generate(client, { prompt: "x".repeat(2_000) });
    assert.equal(error, undefined);
  });
});

suite("browser clients over fetch", () => {
  for (const [name, create] of [
    ["Connect", createConnectTransport],
    ["gRPC-Web", createGrpcWebTransport],
  ] as const) {
    test(`${name}: unary, stream and errors`, async (t) => {
      const { url } = await serveEcho(t);
      for (const useBinaryFormat of [true, false]) {
        const client = createClient(ImagePipelineService, create({ baseUrl: url, useBinaryFormat }));
        assert.equal((await client.generate({ prompt: "x" })).model, "echo");
        const events: (string | undefined)[] = [];
        for await (const { event } of client.generateStream({ request: { prompt: "x" } })) {
          events.push(event.case);
        }
        assert.deepEqual(events, ["queued", "progress", "result"]);
        const error = await client.generate({ prompt: "" }).catch(ConnectError.from);
        assert.ok(error instanceof ConnectError);
        assert.equal(error.code, Code.InvalidArgument);
        assert.equal(error.findDetails(ViolationsSchema)[0]?.violations[0]?.ruleId, "string.min_len");
      }
    });
  }

  test("plain fetch with JSON gets a response", async (t) => {
    const { url } = await serveEcho(t);
    const response = await fetch(`${url}/${pipeline}/Generate`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt: "a red heart", worker_app: "" }),
    });
    assert.equal(response.status, 200);
    assert.equal(Object(await response.json()).trace_id, "");
  });
});

test("health and reflection are served beside the services, in every protocol", async (t) => {
  const { url } = await serveEcho(t);
  const headers = { "content-type": "application/json" };
  const response = await http1(url, "/grpc.health.v1.Health/Check", { headers, body: "{}" });
  assert.equal(response.text, '{"status":"SERVING"}');
});
