import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Code } from "@connectrpc/connect";
import { errorOf } from "../support/error-of.js";
import { createRandom, type Random } from "../support/random.js";
import {
  connectHttp2,
  connectTcp,
  envelope,
  http1,
  http2Request,
  postJson,
  type RawRequest,
  type RawResponse,
  readToEnd,
} from "../support/raw-http.js";
import { recordInternal } from "../support/record-internal.js";
import { serveEcho } from "../support/serve-echo.js";

/** Stands wherever a caller's text can stand. */
const canary = "CANARY";
const count = 600;
const readMaxBytes = 65_536;
const infer = "/throughline.v1.TextToImageWorkerService/Infer";
const inferStream = "/throughline.v1.TextToImageWorkerService/InferStream";

/** How a JSON message travels in one protocol. */
interface Wire {
  readonly path: string;
  readonly type: string;
  readonly encodingHeader: string;
  readonly timeoutHeader: string;
  readonly wrap: (message: string | Uint8Array, flags?: number) => Uint8Array;
}

const connect = { encodingHeader: "content-encoding", timeoutHeader: "connect-timeout-ms" };
const connectStream = { encodingHeader: "connect-content-encoding", timeoutHeader: "connect-timeout-ms" };
const grpc = { encodingHeader: "grpc-encoding", timeoutHeader: "grpc-timeout", wrap: envelope };
const unary: Wire = { path: infer, type: "application/json", ...connect, wrap: (message) => Buffer.from(message) };
const enveloped: readonly Wire[] = [
  { path: infer, type: "application/grpc+json", ...grpc },
  { path: inferStream, type: "application/grpc+json", ...grpc },
  { path: infer, type: "application/grpc-web+json", ...grpc },
  { path: inferStream, type: "application/grpc-web+json", ...grpc },
  { path: inferStream, type: "application/connect+json", ...connectStream, wrap: envelope },
];
const wires: readonly Wire[] = [unary, ...enveloped];

/** Requests that cannot be decoded get Connect's own error, which may quote them to their sender. */
const quotedToSender: ReadonlySet<string> = new Set([
  "wrongType",
  "brokenJson",
  "duplicateKey",
  "unknownField",
  "brokenBinary",
  "brokenCompression",
  "brokenTimeout",
  "strangeCarrier",
]);

type Outcome = "ok" | keyof typeof Code;

/** One request that is wrong in one way, and what its class deserves. */
interface Malformed {
  readonly name: string;
  readonly path: string;
  readonly request: RawRequest;
  readonly expected: Outcome | { readonly httpStatus: number };
}

function json(value: Record<string, unknown>, wire: Wire): string {
  return JSON.stringify(wire.path === inferStream ? { request: value } : value);
}

/** The classes of requests. Each maker draws one member of its class. */
const classes: Readonly<Record<string, (random: Random) => Omit<Malformed, "name">>> = {
  wrongType(random) {
    const wire = random.pick(wires);
    const wrong = random.pick<readonly [string, readonly unknown[]]>([
      ["prompt", [1, true, [canary], { [canary]: 1 }]],
      ["trace_context", [canary, 1, [canary], { traceparent: 1 }, { [canary]: null }, { a: { [canary]: 1 } }]],
      ["traceContext", [[], { a: [canary] }]],
      [
        "options",
        [canary, 1, [], { width: canary }, { seed: -1 }, { seed: 2 ** 32 }, { scheduler: canary }, { format: {} }],
      ],
    ]);
    const body = json({ prompt: canary, [wrong[0]]: random.pick(wrong[1]) }, wire);
    return post(wire, wire.wrap(body), "InvalidArgument");
  },
  brokenJson(random) {
    const wire = random.pick(wires);
    const whole = json({ prompt: canary, trace_context: { [canary]: canary } }, wire);
    const at = random.below(whole.length);
    const body = random.pick([
      whole.slice(0, at),
      `${whole}${canary}`,
      whole.replace(":", "="),
      `${whole}}`,
      "\uFFFD",
      `'${canary}'`,
    ]);
    return post(wire, wire.wrap(body), "InvalidArgument");
  },
  duplicateKey(random) {
    const wire = random.pick(wires);
    const twice = random.pick([
      `"prompt":"${canary}","prompt":"${canary}"`,
      `"prompt":"x","${canary}":1,"${canary}":2`,
      `"prompt":"x","trace_context":{},"traceContext":{}`,
      `"prompt":"x","trace_context":{"${canary}":"a","${canary}":"b"}`,
    ]);
    const body = wire.path === inferStream ? `{"request":{${twice}}}` : `{${twice}}`;
    return post(wire, wire.wrap(body), "InvalidArgument");
  },
  unknownField(random) {
    const wire = random.pick(wires);
    return post(wire, wire.wrap(json({ prompt: "x", [canary]: { [canary]: 1 } }, wire)), "InvalidArgument");
  },
  brokenRule(random) {
    const wire = random.pick(wires);
    const wrong = random.pick<Record<string, unknown>>([
      { prompt: "" },
      { prompt: canary.repeat(400) },
      { prompt: canary, options: { width: 63 } },
      { prompt: canary, options: { guidance_scale: "NaN" } },
      { prompt: canary, options: { num_inference_steps: 1_000 } },
      { prompt: canary, options: { delivery: 77 } },
      { prompt: canary, trace_context: { [canary.repeat(50)]: "" } },
      { prompt: canary, trace_context: { [canary]: canary.repeat(1_400) } },
      {
        prompt: canary,
        trace_context: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`${canary}${i}`, ""])),
      },
    ]);
    return post(wire, wire.wrap(json(wrong, wire)), "InvalidArgument");
  },
  tooLarge(random) {
    const wire = random.pick(wires);
    const size = readMaxBytes + 1 + random.below(4 * readMaxBytes);
    return post(wire, wire.wrap(json({ prompt: canary.repeat(size / 6) }, wire)), "ResourceExhausted");
  },
  zipBomb(random) {
    const wire = random.pick(wires);
    const bomb = gzipSync(json({ prompt: canary.repeat(readMaxBytes) }, wire));
    return post(wire, wire.wrap(bomb, 1), "ResourceExhausted", { [wire.encodingHeader]: "gzip" });
  },
  brokenCompression(random) {
    const wire = random.pick(wires);
    const bytes = Buffer.concat([Buffer.from(canary), random.bytes(20)]);
    const [name, expected] = random.pick<readonly [string, Outcome]>([
      ["gzip", "InvalidArgument"],
      ["br", "InvalidArgument"],
      [canary, "Unimplemented"],
    ]);
    return post(wire, wire.wrap(bytes, 1), expected, { [wire.encodingHeader]: name });
  },
  brokenFrame(random) {
    const wire = random.pick(enveloped);
    const whole = envelope(json({ prompt: canary }, wire));
    const longer = Buffer.from(whole);
    longer.writeUInt32BE(whole.length + 1 + random.below(1_000), 1);
    const huge = Buffer.from(whole);
    huge.writeUInt32BE(readMaxBytes + 1 + random.below(2 ** 31), 1);
    const [body, expected] = random.pick<readonly [Buffer, Outcome]>([
      [whole.subarray(0, 1 + random.below(whole.length - 1)), "InvalidArgument"],
      [longer, "InvalidArgument"],
      [huge, "ResourceExhausted"],
      [Buffer.alloc(0), "Unimplemented"],
      [Buffer.concat([whole, whole]), "Unimplemented"],
    ]);
    return post(wire, body, expected);
  },
  brokenBinary(random) {
    const wire = random.pick(wires);
    // A tag of field 0 is never valid, whatever follows.
    const bytes = Buffer.concat([Buffer.from([0]), Buffer.from(canary), random.bytes(random.below(50))]);
    const type = wire.type.replace("/json", "/proto").replace("+json", "+proto");
    return post({ ...wire, type }, wire.wrap(bytes), "InvalidArgument");
  },
  brokenTimeout(random) {
    const wire = random.pick(wires);
    const timeout = random.pick([canary, "", "-1", "1e3", "12345678901234", "1.5S", "S"]);
    return post(wire, wire.wrap(json({ prompt: canary }, wire)), "InvalidArgument", { [wire.timeoutHeader]: timeout });
  },
  otherHttp(random) {
    const wire = random.pick(wires);
    const body = wire.wrap(json({ prompt: canary }, wire));
    return random.pick<Omit<Malformed, "name">>([
      { path: infer, request: { method: "GET" }, expected: { httpStatus: 405 } },
      { path: infer, request: { method: "PUT", body }, expected: { httpStatus: 405 } },
      { path: infer, request: { headers: { "content-type": `text/${canary}` }, body }, expected: { httpStatus: 415 } },
      { path: `/${canary}/Infer`, request: { body }, expected: { httpStatus: 404 } },
      { path: `${infer}/`, request: { body }, expected: { httpStatus: 404 } },
    ]);
  },
  /** Not malformed: a carrier may contain anything. */
  strangeCarrier(random) {
    const wire = random.pick(wires);
    const text = () => random.bytes(random.below(128)).toString("latin1");
    const carrier = Object.fromEntries(
      Array.from({ length: random.below(17) }, () => [
        random.pick(["traceparent", "TraceState", "BAGGAGE", text()]),
        text(),
      ]),
    );
    return post(wire, wire.wrap(json({ prompt: "x", trace_context: carrier }, wire)), "ok");
  },
};

function post(
  wire: Wire,
  body: Uint8Array,
  expected: Outcome,
  headers: Record<string, string> = {},
): Omit<Malformed, "name"> {
  const te: Record<string, string> = wire.type.startsWith("application/grpc+") ? { te: "trailers" } : {};
  return { path: wire.path, request: { headers: { "content-type": wire.type, ...te, ...headers }, body }, expected };
}

function outcomeOf(response: RawResponse): string {
  if (response.status === 200 && response.headers["content-type"] === "application/json") {
    return "ok";
  }
  const { code } = errorOf(response);
  // A Connect stream without an error gives no code to read.
  const isOk = Code[code] === undefined || (code === Code.Unknown && response.status === 200);
  return isOk ? "ok" : (Code[code] ?? String(code));
}

test(`${count} malformed requests each get the code of their class, and no decoded one is quoted`, async (t) => {
  const random = createRandom(7);
  const internal: unknown[] = [];
  const { url, stop } = await serveEcho(t, {
    readMaxBytes,
    interceptors: [recordInternal(internal)],
    onInternalError: (error) => internal.push(error),
  });
  const session = connectHttp2(t, url);
  const names = Object.keys(classes);
  for (let i = 0; i < count; i++) {
    const name = names[i % names.length] ?? "";
    const made = classes[name]?.(random);
    assert.ok(made !== undefined);
    const { path, request, expected } = made;
    const version = random.pick([1, 2]);
    const response = version === 1 ? await http1(url, path, request) : await http2Request(session, path, request);
    const label = `#${i} ${name} over HTTP/${version} as ${request.headers?.["content-type"]}: ${String(request.body).slice(0, 200)}`;
    if (typeof expected === "string") {
      assert.equal(outcomeOf(response), expected, label);
    } else {
      assert.equal(response.status, expected.httpStatus, label);
    }
    const all = JSON.stringify([response.headers, response.trailers, response.text]);
    if (!quotedToSender.has(name)) {
      assert.ok(!all.includes(canary), `${label}: ${all}`);
    }
  }
  assert.deepEqual(internal, []);
  assert.equal((await postJson(url, infer, '{"prompt":"x"}')).status, 200);
  // No failed call still runs: the drain waits for none.
  session.destroy();
  await stop({ graceMs: 120_000, cancel: () => assert.fail("a call was left running") });
});

test("connections that break at any byte leave no resources behind", async (t) => {
  const random = createRandom(11);
  const internal: unknown[] = [];
  const { url, port, stop } = await serveEcho(t, {
    interceptors: [recordInternal(internal)],
    onInternalError: (error) => internal.push(error),
    keepaliveTimeMs: 20,
  });
  const body = '{"prompt":"x"}';
  const http1Bytes = Buffer.from(
    `POST ${infer} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1");
  const makers: readonly ((t: TestContext) => Promise<void>)[] = [
    async () => {
      const socket = await connectTcp(t, port);
      socket.end(http1Bytes.subarray(0, random.below(http1Bytes.length)));
      await readToEnd(socket);
    },
    async () => {
      const socket = await connectTcp(t, port);
      socket.write(http1Bytes.subarray(0, random.below(http1Bytes.length)));
      socket.resetAndDestroy();
    },
    async () => {
      const socket = await connectTcp(t, port);
      socket.end(random.bytes(1 + random.below(300)));
      await readToEnd(socket);
    },
    async () => {
      const socket = await connectTcp(t, port);
      socket.end(Buffer.concat([preface, random.bytes(9 + random.below(300))]));
      await readToEnd(socket);
    },
    async () => {
      const session = connectHttp2(t, url);
      const stream = session.request({ ":method": "POST", ":path": inferStream, "content-type": "application/grpc" });
      stream.on("error", () => {});
      stream.write(envelope(random.bytes(20)).subarray(0, 1 + random.below(24)));
      stream.close(random.pick([0, 1, 2, 8, 11]));
      await new Promise((resolve) => stream.once("close", resolve));
      session.destroy();
    },
  ];
  for (let i = 0; i < 100; i++) {
    await random.pick(makers)(t);
  }
  assert.deepEqual(internal, []);
  assert.equal((await postJson(url, infer, body)).status, 200);
  await stop({ graceMs: 120_000, cancel: () => assert.fail("a call was left running") });
});
