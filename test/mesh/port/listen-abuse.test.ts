import assert from "node:assert/strict";
import { once } from "node:events";
import * as http2 from "node:http2";
import { Readable } from "node:stream";
import { suite, test } from "node:test";
import { clientPreface, frame, frameFlag, frameType } from "../support/http2-frames.js";
import { open } from "../support/open-port.js";
import { connectHttp2, connectTcp, http1, http2Request, readToEnd } from "../support/raw-http.js";

suite("port under abuse", () => {
  test("connections of one address beyond the limit are closed on arrival", async (t) => {
    const { port, url } = await open(t, { maxConnectionsPerAddress: 1 });
    const first = await connectTcp(t, port);
    const second = await connectTcp(t, port);
    assert.equal(await readToEnd(second), "");
    first.destroy();
    await once(first, "close");
    // The server closes the first connection a moment later.
    while ((await http1(url, "/").catch(() => undefined))?.status !== 200) {
      // Asked again at once.
    }
  });

  test("path beyond the limit is answered 414", async (t) => {
    const { url } = await open(t, { maxUrlBytes: 100 });
    const long = `/${"x".repeat(100)}`;
    const session = connectHttp2(t, url);
    assert.equal((await http1(url, long)).status, 414);
    assert.equal((await http2Request(session, long)).status, 414);
    assert.equal((await http1(url, "/short")).status, 200);
    assert.equal((await http2Request(session, "/short")).status, 200);
  });

  test("stalled HTTP/2 stream is reset beside active ones, and a slow one is not", async (t) => {
    let waiting: (() => void) | undefined;
    let isReset = false;
    function* pieces(slowly: boolean): Generator<Buffer> {
      for (let piece = 0; slowly ? !isReset : piece < 20; piece++) {
        yield Buffer.alloc(20_000);
      }
    }
    const { url } = await open(t, {
      keepaliveTimeMs: 20,
      writeTimeoutMs: 2_000,
      handler(request, response) {
        if (request.url === "/wait") {
          waiting = () => response.end("done");
        } else {
          Readable.from(pieces(request.url === "/slow")).pipe(response);
        }
      },
    });
    const session = http2.connect(url, { settings: { initialWindowSize: 65_535 } });
    session.on("error", () => {});
    t.after(() => session.destroy());
    await once(session, "connect");
    // Room on the connection for what the stalled stream does not take.
    session.setLocalWindowSize(1_000_000);
    const waits = http2Request(session, "/wait");
    const stalled = session.request({ ":path": "/stalled" });
    stalled.on("error", () => {});
    // Read in small bites, for longer than a stalled stream may be.
    const slow = session.request({ ":path": "/slow" });
    slow.on("data", () => {
      slow.pause();
      setTimeout(() => slow.resume(), isReset ? 0 : 25);
    });
    const slowEnds = once(slow, "close");
    await once(stalled, "close");
    isReset = true;
    assert.equal(stalled.rstCode, http2.constants.NGHTTP2_CANCEL);
    waiting?.();
    assert.equal((await waits).text, "done");
    await slowEnds;
    assert.equal(slow.rstCode, http2.constants.NGHTTP2_NO_ERROR);
    assert.equal(session.destroyed, false);
  });

  test("HTTP/2 client that opens and resets streams in a flood is disconnected, and others are served", async (t) => {
    let calls = 0;
    const { port, url } = await open(t, {
      keepaliveTimeMs: 50,
      keepaliveTimeoutMs: 2_000,
      handler(_, response) {
        calls++;
        response.end("ok");
      },
    });
    const flood = await connectTcp(t, port);
    // :method GET, :scheme http, :path /, :authority x; then RST_STREAM with CANCEL.
    const headers = Buffer.from([0x82, 0x86, 0x84, 0x41, 0x01, 0x78]);
    const cancel = Buffer.from([0, 0, 0, 8]);
    const streams = 20_000;
    const frames = Array.from({ length: streams }, (_, i) =>
      Buffer.concat([
        frame(frameType.headers, frameFlag.endHeaders | frameFlag.endStream, 2 * i + 1, headers),
        frame(frameType.rstStream, 0, 2 * i + 1, cancel),
      ]),
    );
    const closed = readToEnd(flood);
    flood.write(Buffer.concat([clientPreface, ...frames]));
    await closed;
    assert.ok(calls < streams / 4, `${calls} of ${streams} streams reached the handler`);
    assert.equal((await http1(url, "/")).text, "ok");
  });
});
