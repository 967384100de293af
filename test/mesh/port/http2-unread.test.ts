import assert from "node:assert/strict";
import * as http2 from "node:http2";
import { suite, test } from "node:test";
import type { NodeHandler } from "../../../src/mesh/port/node-handler.js";
import {
  clientPreface,
  type Frame,
  frame,
  frameFlag,
  framesOf,
  frameType,
  headerBlock,
} from "../support/http2-frames.js";
import { open } from "../support/open-port.js";
import { connectTcp } from "../support/raw-http.js";

const requestHeaders = headerBlock({
  ":method": "POST",
  ":scheme": "http",
  ":path": "/unread",
  ":authority": "localhost",
});

/** Handlers that answer without reading the request, by the frame that ends their response. */
const handlers: Readonly<Record<string, NodeHandler>> = {
  DATA(_, response) {
    response.end("not found");
  },
  "a HEADERS frame of trailers"(_, response) {
    response.addTrailers({ "grpc-status": "5" });
    response.end(Buffer.alloc(1_000));
  },
  "its only HEADERS frame"(_, response) {
    if ("stream" in response) {
      response.stream.respond({ ":status": 200, "grpc-status": "5" }, { endStream: true });
    }
  },
};

/** The frames of a stream in the order of their arrival, up to its RST_STREAM. */
async function framesUntilReset(frames: AsyncGenerator<Frame>, stream: number): Promise<Frame[]> {
  const seen: Frame[] = [];
  for (;;) {
    const { value, done } = await frames.next();
    if (done) {
      throw new Error(`the connection closed before stream ${stream} was reset`);
    }
    if (value.stream === stream) {
      seen.push(value);
      if (value.type === frameType.rstStream) {
        return seen;
      }
    }
  }
}

suite("RST_STREAM(NO_ERROR) after an unread request", () => {
  for (const [ending, handler] of Object.entries(handlers)) {
    test(`RST_STREAM follows a response that ends with ${ending}`, async (t) => {
      const { port } = await open(t, { handler });
      const socket = await connectTcp(t, port);
      const frames = framesOf(socket);
      socket.write(clientPreface);
      // The first stream of a connection and later ones meet the server's socket in different states.
      for (const stream of [1, 3, 5, 7, 9]) {
        socket.write(frame(frameType.headers, frameFlag.endHeaders, stream, requestHeaders));
        const seen = await framesUntilReset(frames, stream);
        const reset = seen.pop();
        assert.equal(reset?.payload.readUInt32BE(), http2.constants.NGHTTP2_NO_ERROR);
        const last = seen.at(-1);
        assert.ok(last !== undefined, `stream ${stream} was reset before its response`);
        assert.notEqual(last.flags & frameFlag.endStream, 0, `stream ${stream} was reset before END_STREAM`);
      }
    });
  }

  test("RST_STREAM follows each of 200 responses of one connection", async (t) => {
    const { port } = await open(t, {
      handler(_, response) {
        response.addTrailers({ "grpc-status": "5" });
        response.end(Buffer.alloc(60_000));
      },
    });
    const socket = await connectTcp(t, port);
    // 12 MB: more than the buffers of both sockets hold.
    const streams = Array.from({ length: 200 }, (_, index) => 2 * index + 1);
    const window = Buffer.alloc(4);
    window.writeUInt32BE(0x7000_0000);
    socket.write(Buffer.concat([clientPreface, frame(frameType.windowUpdate, 0, 0, window)]));
    for (const stream of streams) {
      socket.write(frame(frameType.headers, frameFlag.endHeaders, stream, requestHeaders));
    }
    const ended = new Set<number>();
    const reset = new Set<number>();
    for await (const { type, flags, stream, payload } of framesOf(socket)) {
      if (type === frameType.rstStream) {
        assert.ok(ended.has(stream), `stream ${stream} was reset before END_STREAM`);
        assert.equal(payload.readUInt32BE(), http2.constants.NGHTTP2_NO_ERROR);
        reset.add(stream);
        if (reset.size === streams.length) {
          break;
        }
      } else if (type <= frameType.headers && (flags & frameFlag.endStream) !== 0) {
        ended.add(stream);
      }
    }
  });
});
