import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { Readable } from "node:stream";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { retryDelayMsOf } from "../../../src/mesh/errors/errors.js";
import { createBodyMemory, readBody, readEnvelopes } from "../../../src/mesh/serve/request-body.js";
import { connectHttp2, envelope, http2Request, readHttp2 } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const generate = "/throughline.v1.ImagePipelineService/Generate";

async function* oneByOne(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (const byte of bytes) {
    yield Uint8Array.of(byte);
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
  const all: T[] = [];
  for await (const item of items) {
    all.push(item);
  }
  return all;
}

/** Behaviour whose calls wait, until `release` ends those that have arrived. */
function holdingCalls() {
  let waiting: (() => void)[] = [];
  let onArrival: () => void = () => {};
  return {
    behaviour: () =>
      new Promise<void>((resolve) => {
        waiting.push(resolve);
        onArrival();
      }),
    /** Resolves when `count` calls wait. */
    async arrivals(count: number): Promise<void> {
      while (waiting.length < count) {
        await new Promise<void>((resolve) => (onArrival = resolve));
      }
    },
    release(): void {
      for (const resolve of waiting) {
        resolve();
      }
      waiting = [];
    },
  };
}

suite("body that arrives byte by byte", () => {
  const bytes = Uint8Array.from({ length: 40_000 }, (_, i) => i % 251);
  const limits = () => ({ readMaxBytes: bytes.length, bodyTimeoutMs: 60_000, memory: createBodyMemory(1_000_000) });
  const stream = (content: Uint8Array) => Readable.from(oneByOne(content));

  test("body that arrives byte by byte is read completely", async () => {
    assert.equal(Buffer.compare(await readBody(stream(bytes), limits(), false), bytes), 0);
  });

  test("body that arrives byte by byte is split into messages in linear time", { timeout: 30_000 }, async () => {
    const messages = [bytes, new Uint8Array(), bytes.subarray(0, 7)];
    const body = Buffer.concat(messages.map((message, i) => envelope(message, i)));
    const read = await collect(
      readEnvelopes(
        stream(body),
        limits(),
        new Headers({ "content-type": "application/grpc", "grpc-encoding": "gzip" }),
      ),
    );
    assert.equal(read.length, messages.length);
    assert.equal(Buffer.compare(Buffer.concat(read), body), 0);
    await assert.rejects(
      collect(
        readEnvelopes(
          stream(body.subarray(0, -1)),
          limits(),
          new Headers({ "content-type": "application/grpc", "grpc-encoding": "gzip" }),
        ),
      ),
      {
        rawMessage: "the message is incomplete",
      },
    );
  });
});

test("body of a call that is answered before it has arrived is given up, with its memory", async () => {
  const memory = createBodyMemory(10);
  const response = new EventEmitter();
  const request = new Readable({ read() {} });
  request.push("12345678");
  const limits = { readMaxBytes: 100, bodyTimeoutMs: 60_000, memory };
  const body = readBody(request, limits, false, undefined, response);
  await once(request, "data");
  response.emit("close");
  await assert.rejects(body, { code: Code.Canceled });
  assert.equal((await readBody(Readable.from([Buffer.from("87654321")]), limits, false)).length, 8);
});

test("message with an announced size over the limit is rejected before it arrives", async () => {
  const limits = { readMaxBytes: 1_048_576, bodyTimeoutMs: 60_000, memory: createBodyMemory(1_000_000) };
  const expected = {
    code: Code.ResourceExhausted,
    rawMessage: "the message is larger than the limit of 1048576 bytes; send less, such as a smaller image",
  };
  const announcing = () => {
    const stream = new Readable({ read() {} });
    stream.push(Buffer.from("0000100001", "hex"));
    return stream;
  };
  await assert.rejects(readBody(announcing(), limits, true), expected);
  await assert.rejects(collect(readEnvelopes(announcing(), limits, new Headers())), expected);
});

suite("memory shared by bodies", () => {
  test("memory is released by bodies that end, break off or are too large", async () => {
    const memory = createBodyMemory(100_000);
    const read = (body: AsyncIterable<Uint8Array>) =>
      readBody(Readable.from(body), { readMaxBytes: 100_000, bodyTimeoutMs: 60_000, memory }, false);
    async function* pieces(length: number, error?: Error): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(length);
      if (error) {
        throw error;
      }
    }
    for (let i = 0; i < 5; i++) {
      assert.equal((await read(pieces(90_000))).length, 90_000);
      await assert.rejects(read(pieces(90_000, new Error("broken"))), { code: Code.Canceled });
      await assert.rejects(read(pieces(110_000)), /larger than the limit/);
      await assert.rejects(read(pieces(120_000)), (error) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(retryDelayMsOf(error), 1_000);
        return error.code === Code.ResourceExhausted;
      });
    }
  });

  test("memory held by slow bodies rejects other large ones and accepts small ones", async (t) => {
    const { url } = await serveEcho(t, { bodyMemoryBytes: 150_000, ignoreUnknownFields: true });
    const session = connectHttp2(t, url);
    const headers = { "content-type": "application/grpc+json", te: "trailers" };
    const small = envelope('{"prompt":"x"}');
    const large = envelope(JSON.stringify({ prompt: "x", unknown: "y".repeat(90_000) }));
    const statusOf = async (body: Buffer) =>
      (await http2Request(session, generate, { headers, body })).trailers["grpc-status"];
    const openSlow = () => {
      const stream = session.request({ ":method": "POST", ":path": generate, ...headers });
      stream.on("error", () => {});
      stream.write(large.subarray(0, -1));
      return stream;
    };

    const slow = [openSlow(), openSlow()] as const;
    // Whichever is the last to grow is rejected, while its body is still open.
    const [kept, fields] = await Promise.race([
      once(slow[0], "response").then(([fields]) => [slow[1], fields] as const),
      once(slow[1], "response").then(([fields]) => [slow[0], fields] as const),
    ]);
    assert.equal(fields["grpc-status"], "8");
    assert.equal(fields["grpc-message"], "the server is receiving too many large requests; try again later");
    assert.equal(await statusOf(small), "0");

    kept.end(large.subarray(-1));
    assert.equal((await readHttp2(kept)).trailers["grpc-status"], "0");
    assert.equal(await statusOf(large), "0");
  });

  test("bodies of running calls reject other large ones and accept small ones, until the calls end", async (t) => {
    const { behaviour, arrivals, release } = holdingCalls();
    const { url } = await serveEcho(t, { behaviour, heldBodyBytes: 140_000, ignoreUnknownFields: true });
    const session = connectHttp2(t, url);
    const body = (padding: number) => JSON.stringify({ prompt: "x", unknown: "y".repeat(padding) });
    const grpc = async (padding: number) => {
      const headers = { "content-type": "application/grpc+json", te: "trailers" };
      const { trailers, headers: head } = await http2Request(session, generate, {
        headers,
        body: envelope(body(padding)),
      });
      return trailers["grpc-status"] ?? head["grpc-status"];
    };
    const connect = async (padding: number) =>
      (await http2Request(session, generate, { headers: { "content-type": "application/json" }, body: body(padding) }))
        .status;

    for (const [callLarge, callSmall] of [
      [() => grpc(90_000), () => connect(10)],
      [() => connect(90_000), () => grpc(10)],
    ] as const) {
      const large = callLarge();
      await arrivals(1);
      assert.equal(await grpc(90_000), "8");
      assert.equal(await connect(90_000), 429);
      const small = callSmall();
      await arrivals(2);
      release();
      assert.deepEqual(new Set([await large, await small]), new Set(["0", 200]));
    }
  });
});
