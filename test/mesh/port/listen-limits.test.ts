import assert from "node:assert/strict";
import { once } from "node:events";
import * as http2 from "node:http2";
import { suite, test } from "node:test";
import { listen } from "../../../src/mesh/port/listen.js";
import { echo, emptySettings, holdingHandler, open } from "../support/open-port.js";
import { connectHttp2, connectTcp, http1, http2Request, readToEnd } from "../support/raw-http.js";

suite("port limits", () => {
  test("client that sends no complete preface in time is closed", async (t) => {
    const { port } = await open(t, { prefaceTimeoutMs: 50 });
    const silent = await connectTcp(t, port);
    const partial = await connectTcp(t, port);
    partial.write("PRI * HTTP");
    assert.deepEqual(await Promise.all([readToEnd(silent), readToEnd(partial)]), ["", ""]);
  });

  test("slow headers and a slow body are answered 408", async (t) => {
    const { port } = await open(t, { headersTimeoutMs: 150, requestTimeoutMs: 300 });
    const slowHeaders = await connectTcp(t, port);
    slowHeaders.write("GET / HTTP/1.1\r\nhost:");
    const slowBody = await connectTcp(t, port);
    slowBody.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1");
    const [headers, body] = await Promise.all([readToEnd(slowHeaders), readToEnd(slowBody)]);
    assert.match(headers, /^HTTP\/1\.1 408 /);
    assert.match(body, /^HTTP\/1\.1 408 /);
  });

  test("large headers are answered 431, or reset on HTTP/2", async (t) => {
    const { url } = await open(t, { maxHeaderBytes: 1_024 });
    const headers = { "x-large": "x".repeat(2_000) };
    assert.equal((await http1(url, "/", { headers })).status, 431);
    const session = connectHttp2(t, url);
    await once(session, "remoteSettings");
    await assert.rejects(http2Request(session, "/", { headers }), { code: "ERR_HTTP2_STREAM_ERROR" });
  });

  test("large headers sent before an HTTP/2 client has read SETTINGS reset the stream", async (t) => {
    const { url } = await open(t, {});
    const session = connectHttp2(t, url);
    const headers = { "x-large": "x".repeat(17_000) };
    await assert.rejects(http2Request(session, "/", { headers }), { code: "ERR_HTTP2_STREAM_ERROR" });
    assert.equal((await http2Request(session, "/")).status, 200);
  });

  test("idle HTTP/1.1 connection is kept beyond the 60 s of load balancers, or for the configured time", async (t) => {
    for (const [limits, header] of [
      [{}, "timeout=75"],
      [{ keepAliveTimeoutMs: 120_000 }, "timeout=120"],
    ] as const) {
      const { port } = await open(t, limits);
      const socket = await connectTcp(t, port);
      socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
      const [received] = await once(socket, "data");
      assert.match(String(received), new RegExp(`^keep-alive: ${header}\r$`, "im"));
    }
  });

  test("kept HTTP/1.1 connection outlives the limits for headers and requests, and so does a long response", async (t) => {
    const hold = holdingHandler();
    const limits = { headersTimeoutMs: 150, requestTimeoutMs: 300 };
    const { port } = await open(t, {
      ...limits,
      handler: (request, response) => (request.url === "/held" ? hold.handler : echo)(request, response),
    });
    const request = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;
    const idle = await connectTcp(t, port);
    idle.write(request("/"));
    await once(idle, "data");
    const arrived = hold.arrival();
    const waiting = await connectTcp(t, port);
    waiting.write(request("/held"));
    await arrived;
    // Younger than both, and closed for its time.
    const slow = await connectTcp(t, port);
    slow.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1");
    assert.match(await readToEnd(slow), /^HTTP\/1\.1 408 /);
    hold.release();
    const [response] = await once(waiting, "data");
    assert.match(String(response), /^HTTP\/1\.1 200 /);
    idle.write(request("/"));
    const [second] = await once(idle, "data");
    assert.match(String(second), /^HTTP\/1\.1 200 /);
  });

  test("HTTP/1.1 requests beyond the pipelining limit get 503", async (t) => {
    const hold = holdingHandler();
    const { port } = await open(t, { handler: hold.handler, maxPipelinedRequests: 2 });
    const socket = await connectTcp(t, port);
    const arrived = Promise.all([hold.arrival(), hold.arrival()]);
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(4));
    await arrived;
    const received = readToEnd(socket);
    hold.release();
    assert.deepEqual((await received).match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 503"]);
  });

  test("HTTP/2 client may send 256 KiB before they are read, and no more", async (t) => {
    const { url } = await open(t, { handler() {} });
    const session = connectHttp2(t, url);
    await once(session, "remoteSettings");
    // Its acknowledgement follows the frame that opens the connection's window.
    await new Promise<void>((resolve) => session.ping(() => resolve()));
    const window = () => session.state.remoteWindowSize;
    assert.deepEqual([session.remoteSettings.initialWindowSize, window()], [262_144, 262_144]);
    for (let streams = 0; streams < 2; streams++) {
      const stream = session.request({ ":method": "POST" });
      stream.on("error", () => {});
      stream.write(Buffer.alloc(200_000));
    }
    while (window() !== 0) {
      await new Promise<void>((resolve) => session.ping(() => resolve()));
    }
  });

  test("HTTP/2 streams beyond the limit wait for a free one", async (t) => {
    const hold = holdingHandler();
    const { url } = await open(t, { handler: hold.handler, maxConcurrentStreams: 1 });
    const session = connectHttp2(t, url);
    await once(session, "remoteSettings");
    assert.equal(session.remoteSettings.maxConcurrentStreams, 1);
    let arrived = hold.arrival();
    const first = http2Request(session, "/");
    const second = http2Request(session, "/");
    await arrived;
    arrived = hold.arrival();
    hold.release();
    assert.equal((await first).text, "done");
    await arrived;
    hold.release();
    assert.equal((await second).text, "done");
  });

  test("connections beyond the limit are closed on arrival", async (t) => {
    const { port, url } = await open(t, { maxConnections: 1 });
    const first = await connectTcp(t, port);
    const second = await connectTcp(t, port);
    assert.equal(await readToEnd(second), "");
    first.destroy();
    await once(first, "close");
    // The server closes the first connection a moment later.
    for (;;) {
      const response = await http1(url, "/").catch(() => undefined);
      if (response?.status === 200) {
        break;
      }
    }
  });

  test("idle HTTP/2 connection gets a GOAWAY; one with a running call does not", async (t) => {
    const hold = holdingHandler();
    const { url } = await open(t, { handler: hold.handler, idleSessionTimeoutMs: 1_500 });
    const idle = connectHttp2(t, url);
    const busy = connectHttp2(t, url);
    const arrived = hold.arrival();
    const running = http2Request(busy, "/");
    await arrived;
    await once(idle, "close");
    assert.equal(busy.closed, false);
    hold.release();
    assert.equal((await running).text, "done");
    await once(busy, "close");
  });

  test("silent HTTP/2 connection is pinged, and closed when it does not answer", async (t) => {
    const { port, url } = await open(t, { keepaliveTimeMs: 30, keepaliveTimeoutMs: 2_000 });
    const answering = connectHttp2(t, url);
    await once(answering, "connect");
    const silent = await connectTcp(t, port);
    silent.write(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}`);
    const received = await readToEnd(silent);
    assert.ok(received.includes("\0\0\x08\x06\0"), "a PING frame came");
    assert.equal(answering.destroyed, false);
    assert.equal((await http2Request(answering, "/")).status, 200);
  });

  test("HTTP/2 connection is not closed for time in which the server itself was suspended", async (t) => {
    const { port } = await open(t, { keepaliveTimeMs: 30, keepaliveTimeoutMs: 900 });
    const socket = await connectTcp(t, port);
    socket.write(Buffer.from(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}`, "latin1"));
    let received = Buffer.alloc(0);
    /** The next PING as it came. */
    const nextPing = async (): Promise<Buffer> => {
      for (;;) {
        const at = received.indexOf("\0\0\x08\x06\0", 0, "latin1");
        if (at >= 0 && received.length >= at + 17) {
          const ping = received.subarray(at, at + 17);
          received = received.subarray(at + 17);
          return ping;
        }
        const [chunk]: Buffer[] = await once(socket, "data", { signal: AbortSignal.timeout(20_000) });
        received = Buffer.concat([received, chunk ?? Buffer.alloc(0)]);
      }
    };
    for (let i = 0; i < 3; i++) {
      const answer = Buffer.from(await nextPing());
      // The answer arrives while the process is suspended.
      socket.write(answer.fill(1, 4, 5));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
    }
    await nextPing();
  });

  test("HTTP/2 connection that broke the protocol is closed soon, whatever its client does", async (t) => {
    const { port } = await open(t, { keepaliveTimeMs: 30, keepaliveTimeoutMs: 60_000 });
    const oversizeFrame = "\xff\xff\xff\0\0\0\0\0\0";
    const socket = await connectTcp(t, port);
    socket.write(Buffer.from(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}${oversizeFrame}`, "latin1"));
    assert.match(await readToEnd(socket), /too large frame size/);
  });

  test("client that does not read is disconnected; one that waits is not", async (t) => {
    const hold = holdingHandler();
    let cut: () => void = () => {};
    const closed = new Promise<void>((resolve) => (cut = resolve));
    const { port, url } = await open(t, {
      writeTimeoutMs: 100,
      handler(request, response) {
        if (request.url === "/wait") {
          hold.handler(request, response);
          return;
        }
        response.once("close", cut);
        response.end(Buffer.alloc(50_000_000));
      },
    });
    const arrived = hold.arrival();
    const waiting = http1(url, "/wait");
    await arrived;
    const socket = await connectTcp(t, port);
    socket.pause();
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    await closed;
    hold.release();
    assert.equal((await waiting).text, "done");
  });

  test("HTTP/2 client that answers PINGs but opens no window is disconnected; one that waits is not", async (t) => {
    const hold = holdingHandler();
    const { url } = await open(t, {
      keepaliveTimeMs: 20,
      writeTimeoutMs: 200,
      handler(request, response) {
        if (request.url === "/wait") {
          hold.handler(request, response);
        } else {
          response.end("a long answer");
        }
      },
    });
    const arrived = hold.arrival();
    const waiting = http2Request(connectHttp2(t, url), "/wait");
    await arrived;
    const session = http2.connect(url, { settings: { initialWindowSize: 0 } });
    session.on("error", () => {});
    t.after(() => session.destroy());
    session.request({ ":path": "/" }).on("error", () => {});
    await once(session, "close");
    hold.release();
    assert.equal((await waiting).text, "done");
  });

  test("invalid limit is rejected by name", async () => {
    for (const maxConnections of [0, -1, 1.5, Number.NaN]) {
      await assert.rejects(listen({ handler: echo, port: 0, maxConnections }), {
        name: "RangeError",
        message: `maxConnections must be a positive whole number, not ${maxConnections}`,
      });
    }
  });
});
