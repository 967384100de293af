import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type StringValue, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { pingMesh } from "./ping-mesh.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";

const serialize = (message: StringValue) => Buffer.from(toBinary(StringValueSchema, message));
const deserialize = (bytes: Buffer) => fromBinary(StringValueSchema, bytes);
const message = create(StringValueSchema, { value: "a" });

function metadata(): grpc.Metadata {
  const headers = new grpc.Metadata();
  headers.set("traceparent", `00-${traceId}-${spanId}-01`);
  return headers;
}

test("grpc-js client sends its trace, and a trusting server continues it in each kind of call", async (t) => {
  const mesh = await pingMesh(
    t,
    {
      unary: ({ value }) => ({ value }),
      async *bidiStream(requests) {
        for await (const { value } of requests) {
          yield { value };
        }
        throw new ConnectError("enough", Code.ResourceExhausted);
      },
    },
    { wire: "grpc" },
  );
  const client = new grpc.Client(new URL(mesh.baseUrl).host, grpc.credentials.createInsecure());
  t.after(() => client.close());

  const answer = await new Promise<string | undefined>((resolve, reject) => {
    const path = "/test.v1.PingService/Unary";
    client.makeUnaryRequest(path, serialize, deserialize, message, metadata(), (error, response) =>
      error === null ? resolve(response?.value) : reject(error),
    );
  });
  assert.equal(answer, "a");

  const call = client.makeBidiStreamRequest("/test.v1.PingService/BidiStream", serialize, deserialize, metadata());
  call.write(message);
  call.end();
  const code = await new Promise<number>((resolve) => {
    call.on("data", () => {});
    call.on("error", ({ code: status }: grpc.ServiceError) => resolve(status));
  });
  assert.equal(code, grpc.status.RESOURCE_EXHAUSTED);

  const spans = await mesh.collector.waitFor((all) => all.length >= 2, AbortSignal.timeout(30_000));
  assert.deepEqual(
    spans.map((span) => [
      span.name,
      span.traceId,
      span.parentSpanId,
      span.attributes["rpc.status_code"],
      span.status.code,
    ]),
    [
      ["test.v1.PingService/Unary", traceId, spanId, "OK", "UNSET"],
      ["test.v1.PingService/BidiStream", traceId, spanId, "RESOURCE_EXHAUSTED", "UNSET"],
    ],
  );
});

test("grpc-js server receives the client's trace as a W3C header", async (t) => {
  const server = new grpc.Server();
  t.after(() => server.forceShutdown());
  let traceparent: unknown;
  server.register(
    "/test.v1.PingService/Unary",
    (call: grpc.ServerUnaryCall<StringValue, StringValue>, respond: grpc.sendUnaryData<StringValue>) => {
      [traceparent] = call.metadata.get("traceparent");
      respond(null, call.request);
    },
    serialize,
    deserialize,
    "unary",
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const mesh = await pingMesh(t, {}, { wire: "grpc", baseUrl: `http://127.0.0.1:${port}` });
  assert.equal((await mesh.client.unary({ value: "a" })).value, "a");
  const [span] = mesh.collector.spans();
  assert.equal(traceparent, `00-${span?.traceId}-${span?.spanId}-01`);
});
