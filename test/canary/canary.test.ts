import assert from "node:assert/strict";
import http from "node:http";
import { after, before, suite, test } from "node:test";
import { inspect as inspectValue } from "node:util";
import type { DescMessage, JsonObject } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { maxImageRequestBytes } from "../../src/request-limits.js";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { envelope } from "../mesh/support/raw-http.js";
import { findIn, mark, markedPrompt } from "./support/marks.js";
import { apps, startWatchedMesh } from "./support/watched-mesh.js";
import {
  type Answer,
  encode,
  headersOf,
  isPipelines,
  isStream,
  messageOf,
  type Rpc,
  rpcs,
  send,
  type Wire,
  wires,
} from "./support/wires.js";

const inspect = (value: unknown) => inspectValue(value, { depth: null, maxStringLength: null, maxArrayLength: null });

/** What a case sends of a marked prompt. */
type Bytes = (prompt: string, rpc: Rpc, wire: Wire) => Uint8Array;

/** A case of which nothing but the bytes is special, and the codes that it may get. */
interface Kind {
  readonly name: string;
  readonly codes: readonly string[];
  readonly bytes: Bytes;
  readonly only?: (rpc: Rpc, wire: Wire) => boolean;
}

const quick = { num_inference_steps: 1, seed: 1 };
/** Seconds of work. */
const endless = { num_inference_steps: 150, width: 128, height: 128, guidance_scale: 5 };

const ofRequest =
  (request: (prompt: string) => JsonObject): Bytes =>
  (prompt, rpc, wire) =>
    encode(rpc, wire, messageOf(rpc, request(prompt)));
const plain = ofRequest((prompt) => ({ prompt, options: { ...quick, negative_prompt: prompt } }));
const json = (_: Rpc, wire: Wire) => wire.json;
const binary = (_: Rpc, wire: Wire) => !wire.json;
/** An image that takes so long that a test is done before. */
const long = ofRequest((prompt) => ({ prompt, options: endless }));
const textOf =
  (text: (prompt: string) => string): Bytes =>
  (prompt, rpc) =>
    Buffer.from(isStream(rpc) ? `{"request":${text(prompt)}}` : text(prompt));
const connectJson: Wire = { name: "connect, json", json: true, protocol: "connect" };
/** A field that no message has, of bytes: number 500. */
const unknownField = (prompt: string) => Buffer.concat([Buffer.of(0xa2, 0x1f, prompt.length), Buffer.from(prompt)]);

/** Megabytes, which the encoders of messages would take a second for. */
function overTheSizeLimit(prompt: string, rpc: Rpc, wire: Wire): Buffer {
  const text = Buffer.alloc(maxImageRequestBytes, prompt);
  if (wire.json) {
    const [before = "", after = ""] = encode(rpc, wire, messageOf(rpc, { prompt: "@" }))
      .toString()
      .split("@");
    return Buffer.concat([Buffer.from(before), text, Buffer.from(after)]);
  }
  const path = isStream(rpc) ? ["request", "prompt"] : ["prompt"];
  const { bytes } = path.reduce<{ readonly message: DescMessage; readonly bytes: (value: Buffer) => Buffer }>(
    ({ message, bytes }, name) => {
      const field = message.fields.find((each) => each.name === name);
      assert.ok(field);
      const wrap = (value: Buffer) =>
        Buffer.from(new BinaryWriter().tag(field.number, WireType.LengthDelimited).bytes(value).finish());
      return { message: field.message ?? message, bytes: (value) => bytes(wrap(value)) };
    },
    { message: rpc.input, bytes: (value) => value },
  );
  return bytes(text);
}

const kinds: readonly Kind[] = [
  { name: "an image", codes: ["ok"], bytes: plain },
  {
    name: "an invalid width",
    codes: ["invalid_argument"],
    bytes: ofRequest((prompt) => ({ prompt, options: { width: 65 } })),
  },
  {
    name: "a width that the model does not support",
    codes: ["invalid_argument"],
    bytes: ofRequest((prompt) => ({ prompt, options: { width: 72 } })),
  },
  {
    name: "a prompt over the length limit",
    codes: ["invalid_argument"],
    bytes: ofRequest((prompt) => ({ prompt: prompt.repeat(200) })),
  },
  {
    name: "a negative prompt over the length limit",
    codes: ["invalid_argument"],
    bytes: ofRequest((prompt) => ({ prompt, options: { negative_prompt: prompt.repeat(200) } })),
  },
  {
    name: "a message over the size limit",
    codes: ["resource_exhausted"],
    bytes: overTheSizeLimit,
  },
  {
    name: "an unknown field",
    codes: ["invalid_argument"],
    only: json,
    bytes: textOf((prompt) => `{"prompt":"${prompt}","${prompt}":"${prompt}"}`),
  },
  {
    name: "a value of another type",
    codes: ["invalid_argument"],
    only: json,
    bytes: textOf((prompt) => `{"prompt":{"text":"${prompt}"}}`),
  },
  {
    name: "an unknown enum value",
    codes: ["invalid_argument"],
    only: json,
    bytes: textOf((prompt) => `{"prompt":"x","options":{"scheduler":"${prompt}"}}`),
  },
  {
    name: "an invalid number",
    codes: ["invalid_argument"],
    only: json,
    bytes: textOf((prompt) => `{"prompt":"x","options":{"width":"${prompt}"}}`),
  },
  {
    name: "truncated JSON",
    codes: ["invalid_argument"],
    only: json,
    bytes: textOf((prompt) => `{"prompt":"${prompt}","options":{`),
  },
  { name: "invalid JSON", codes: ["invalid_argument"], only: json, bytes: (prompt) => Buffer.from(prompt) },
  {
    name: "binary with an unknown field",
    codes: ["ok"],
    only: binary,
    bytes: (prompt, rpc, wire) => Buffer.concat([plain(prompt, rpc, wire), unknownField(prompt)]),
  },
  {
    name: "truncated binary",
    codes: ["invalid_argument"],
    only: binary,
    bytes: (prompt, rpc, wire) => plain(prompt, rpc, wire).subarray(0, -3),
  },
  { name: "invalid binary", codes: ["invalid_argument"], only: binary, bytes: (prompt) => Buffer.from(prompt) },
  {
    name: "invalid UTF-8",
    codes: ["invalid_argument"],
    only: binary,
    bytes: (prompt, rpc, wire) => spoilt(plain(prompt, rpc, wire), prompt),
  },
  {
    name: "an unknown app",
    codes: ["not_found"],
    only: isPipelines,
    bytes: ofRequest((prompt) => ({ prompt, worker_app: `nobody/${prompt}` })),
  },
  {
    name: "an address as app",
    codes: ["invalid_argument"],
    only: isPipelines,
    bytes: ofRequest((prompt) => ({ prompt, worker_app: `${prompt}:80` })),
  },
  {
    name: "an app whose worker is down",
    codes: ["unavailable"],
    only: isPipelines,
    bytes: ofRequest((prompt) => ({ prompt, worker_app: apps.gone })),
  },
];

/** The prompt's last byte becomes one that ends no character. */
function spoilt(bytes: Uint8Array, prompt: string): Uint8Array {
  const spoiling = Buffer.from(bytes);
  spoiling[spoiling.indexOf(prompt) + prompt.length - 1] = 0xff;
  return spoiling;
}

suite("marked prompt is found only with its sender", async () => {
  const folder = await temporaryFolder();
  let mesh: Awaited<ReturnType<typeof startWatchedMesh>>;
  const cleanUps: (() => void)[] = [];
  const t = { after: (cleanUp: () => void) => void cleanUps.push(cleanUp) };
  /** Every answer, with the prompt that its sender sent. */
  const answers: { readonly prompt: string; readonly text: string; readonly about: string }[] = [];
  /** Answers to those who sent no prompt at all. */
  const seen: string[] = [];
  const watching = new AbortController();
  let prompts = 0;
  const nextPrompt = () => markedPrompt(prompts++);

  const urlOf = (rpc: Rpc) => (isPipelines(rpc) ? mesh.pipelineUrl : mesh.workerUrl);
  const callWith = async (about: string, rpc: Rpc, wire: Wire, bytes: Bytes, timeoutMs?: number): Promise<Answer> => {
    const prompt = nextPrompt();
    const body = bytes(prompt, rpc, wire);
    const answer = await send(t, urlOf(rpc), { rpc, wire, body, timeoutMs });
    answers.push({ prompt, text: answer.text, about: `${about}, ${rpc.name}, ${wire.name}` });
    return answer;
  };
  /** Asks for an image that takes long, by a request that its sender can leave; resolves when the engine is at it. */
  const begin = async (rpc: Rpc, wire: Wire) => {
    for (;;) {
      const prompt = nextPrompt();
      const outgoing = http.request(new URL(`/${rpc.parent.typeName}/${rpc.name}`, urlOf(rpc)), {
        method: "POST",
        agent: false,
        headers: headersOf(rpc, wire, undefined),
      });
      let isOver = false;
      outgoing.on("error", () => {});
      outgoing.on("close", () => {
        isOver = true;
      });
      outgoing.on("response", (response) => {
        response.on("error", () => {});
        response.on("data", (chunk) => answers.push({ prompt, text: String(chunk), about: `begun, ${rpc.name}` }));
      });
      const body = long(prompt, rpc, wire);
      outgoing.end(isStream(rpc) ? envelope(body) : body);
      // Where the engine was at another caller's image it is rejected, and asked for again.
      while (!isOver) {
        if ((await askWorker()) === "resource_exhausted" && !isOver) {
          return { leave: () => outgoing.destroy() };
        }
      }
    }
  };
  /** Asks the worker for a small image: it is generated, or rejected because the engine is busy. */
  const askWorker = async () => (await callWith("another caller", rpcs[2], connectJson, plain)).code;
  const untilFree = async () => {
    let code = await askWorker();
    while (code !== "ok") {
      code = await askWorker();
    }
  };

  before(async () => {
    mesh = await startWatchedMesh(t, folder);
    const studio = createClient(
      StudioService,
      createConnectTransport({ baseUrl: mesh.pipelineUrl, httpVersion: "1.1" }),
    );
    const watch = async (events: AsyncIterable<unknown>) => {
      for await (const event of events) {
        seen.push(inspect(event));
      }
    };
    for (const stream of [
      studio.watchRequests({}, { signal: watching.signal }),
      studio.watchEntityMap({}, { signal: watching.signal }),
    ]) {
      watch(stream).catch(() => {});
    }
  });
  after(() => {
    watching.abort();
    for (const cleanUp of cleanUps) {
      cleanUp();
    }
  });

  for (const rpc of rpcs) {
    test(`${rpc.parent.name}/${rpc.name}: prompt does not leak, for each kind of request, protocol and encoding`, async () => {
      for (const wire of wires) {
        for (const { name, codes, bytes, only } of kinds) {
          if (only?.(rpc, wire) !== false) {
            const { code, text } = await callWith(name, rpc, wire, bytes);
            assert.ok(codes.includes(code), `${name}, ${rpc.name}, ${wire.name}: ${code}, ${text.slice(0, 600)}`);
          }
        }
      }
    });

    test(`${rpc.parent.name}/${rpc.name}: prompt does not leak at a deadline, a cancellation, a full queue and an engine loss`, async () => {
      for (const wire of wires) {
        // Behind another request it might be rejected at once, for the estimated wait.
        await untilFree();
        const late = await callWith("a deadline", rpc, wire, long, 300);
        assert.equal(late.code, "deadline_exceeded", `${rpc.name}, ${wire.name}: ${late.text.slice(0, 600)}`);
      }
      await untilFree();
      const left = await begin(rpc, connectJson);
      for (const wire of wires) {
        const { code, text } = await callWith("a full queue", rpc, wire, plain);
        assert.equal(code, "resource_exhausted", text.slice(0, 600));
      }
      left.leave();
      await untilFree();
      const killed = await begin(rpc, connectJson);
      await mesh.replaceEngine();
      killed.leave();
      await untilFree();
    });
  }

  test("prompts are in no logs, spans, metrics, studio data and other responses", async () => {
    for (const url of [mesh.pipelineUrl, mesh.workerUrl, mesh.collectorUrl]) {
      for (const path of ["/apps", "/healthz", "/readyz", "/", "/traces", `/${nextPrompt()}`]) {
        seen.push(await (await fetch(`${url}${path}`)).text());
      }
    }
    const studio = createClient(
      StudioService,
      createConnectTransport({ baseUrl: mesh.pipelineUrl, httpVersion: "1.1" }),
    );
    const { traces } = await studio.listTraces({ limit: 1000 });
    assert.ok(traces.length > 50, `${traces.length} traces`);
    for (const { traceId } of traces) {
      for await (const { spans } of studio.watchTrace({ traceId, idleMs: 0 })) {
        seen.push(inspect(spans));
      }
    }
    const prometheus = await mesh.prometheus();
    // At their end they export what is left.
    for (const service of [mesh.pipeline, mesh.worker]) {
      service.kill("SIGTERM");
      assert.deepEqual(await service.ended, { code: 0, signal: null });
    }
    watching.abort();

    const outputs = {
      "pipeline's log": [mesh.pipeline.stderr, '"code":"NOT_FOUND"', '"code":"UNAVAILABLE"', '"code":"CANCELLED"'],
      "worker's log": [mesh.worker.stderr, '"code":"INVALID_ARGUMENT"', '"code":"DEADLINE_EXCEEDED"', "engine died"],
      "collector's log": [mesh.collector.stderr, "ready"],
      spans: [mesh.exports.of("traces"), "image-pipeline", "inference", "text-encoding", "call-inference-worker"],
      metrics: [mesh.exports.of("metrics"), "rpc.server.call.duration"],
      "exported log": [mesh.exports.of("logs"), "call failed", "call answered"],
      prometheus: [prometheus, "rpc_server_call_duration"],
      "answers to those who sent nothing": [seen.join("\n"), "acme/gone", "image-pipeline", "Generate"],
    };
    for (const [what, [text = "", ...expected]] of Object.entries(outputs)) {
      for (const each of expected) {
        assert.ok(text.includes(each), `${what} should have ${each}`);
      }
      assert.equal(findIn(text, mark), undefined, what);
    }
    assert.ok(answers.length > 200, `${answers.length} answers`);
    for (const { prompt, text, about } of answers) {
      assert.equal(findIn(text.replaceAll(prompt, ""), mark), undefined, about);
    }
  });
});

test("engine error is returned without the prompt", async (t) => {
  const lines: string[] = [];
  const mesh = await createTestMesh({
    wire: "port",
    engine: createFakeEngine({
      beforeStep() {
        throw new Error("the tensor is no number");
      },
    }),
    onLog: (line) => lines.push(line),
  });
  t.after(() => mesh.stop());
  for (const rpc of rpcs) {
    const url = isPipelines(rpc) ? mesh.pipelineUrl : mesh.workerUrl;
    for (const wire of wires) {
      const body = plain(markedPrompt(0), rpc, wire);
      const { code } = await send(t, url, { rpc, wire, body });
      assert.equal(code, "internal", `${rpc.name}, ${wire.name}`);
    }
  }
  assert.match(lines.join(""), /the tensor is no number/);
  assert.ok(mesh.spans().length > 20);
  for (const text of [lines.join(""), inspect(mesh.spans()), inspect(await mesh.metrics())]) {
    assert.equal(findIn(text, mark), undefined);
  }
});

test("marked prompt is found in every encoding", () => {
  for (const padding of ["", "a", "ab"]) {
    const text = `${padding}${markedPrompt(7)} and more`;
    for (const encoding of ["utf8", "hex", "base64", "base64url"] as const) {
      assert.ok(findIn(Buffer.from(text).toString(encoding), mark), `${padding} ${encoding}`);
    }
  }
  assert.equal(findIn("CANARY", mark), undefined);
});
