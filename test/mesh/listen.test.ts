import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import { suite, type TestContext, test } from "node:test";
import { type Listening, type ListenOptions, listen } from "../../src/mesh/listen.js";
import type { NodeHandler } from "../../src/mesh/node-handler.js";
import { connectHttp2, connectTcp, http1, http2Request, readToEnd } from "./support/raw-http.js";

/** Answers with the HTTP version, the method and the length of the body. */
const echo: NodeHandler = (request, response) => {
  let length = 0;
  request.on("data", (chunk) => {
    length += chunk.length;
  });
  request.on("end", () => response.end(`${request.httpVersion} ${request.method} ${length}`));
};

/** What an HTTP/2 client sends after the preface. */
const emptySettings = "\0\0\0\x04\0\0\0\0\0";

async function open(t: TestContext, options: Partial<ListenOptions> = {}): Promise<Listening> {
  const listening = await listen({ handler: echo, port: 0, ...options });
  t.after(() => listening.stop({ graceMs: 0, cancelMs: 0 }));
  return listening;
}

/** A handler that holds its calls until `release`, and tells when one has come and when one was cut off. */
function holdingHandler() {
  const held: (() => void)[] = [];
  const arrivals: (() => void)[] = [];
  const ends: Promise<boolean>[] = [];
  const handler: NodeHandler = (_, response) => {
    ends.push(new Promise((resolve) => response.once("close", () => resolve(response.writableEnded))));
    held.push(() => response.end("done"));
    arrivals.shift()?.();
  };
  return {
    handler,
    arrival: () => new Promise<void>((resolve) => arrivals.push(resolve)),
    release() {
      for (const finish of held.splice(0)) {
        finish();
      }
    },
    /** Of each call, once all are over: true if it was answered, false if it was cut off. */
    answered: () => Promise.all(ends),
  };
}

suite("one port", () => {
  test("speaks HTTP/1.1 and HTTP/2", async (t) => {
    const { url, port, host } = await open(t);
    assert.equal(url, `http://127.0.0.1:${port}`);
    assert.equal(host, "127.0.0.1");
    assert.equal((await http1(url, "/", { body: "four" })).text, "1.1 POST 4");
    assert.equal((await http2Request(connectHttp2(t, url), "/", { body: "four" })).text, "2.0 POST 4");
  });

  test("answers requests that come byte by byte", async (t) => {
    const { port } = await open(t);
    const socket = await connectTcp(t, port);
    const received = readToEnd(socket);
    // P is also the first byte of the HTTP/2 preface.
    for (const byte of "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\n!") {
      socket.write(byte);
      await new Promise(setImmediate);
    }
    assert.match(await received, /^HTTP\/1\.1 200 [\s\S]*1\.1 POST 1/);

    const http2Socket = await connectTcp(t, port);
    const frame = once(http2Socket, "data");
    for (const byte of `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}`) {
      http2Socket.write(byte);
      await new Promise(setImmediate);
    }
    const [bytes] = await frame;
    assert.equal(bytes[3], 0x04, "the answer begins with a SETTINGS frame");
  });

  test("answers pipelined HTTP/1.1 requests in order", async (t) => {
    const { port } = await open(t);
    const socket = await connectTcp(t, port);
    const get = (path: string, rest = "") => `GET /${path} HTTP/1.1\r\nhost: x\r\n${rest}\r\n`;
    socket.write(get("a") + get("b") + get("c", "connection: close\r\n"));
    assert.equal((await readToEnd(socket)).match(/1\.1 GET 0/g)?.length, 3);
  });

  test("ends all pipelined requests when the client leaves", async (t) => {
    const hold = holdingHandler();
    const { port, stop } = await open(t, { handler: hold.handler });
    const socket = await connectTcp(t, port);
    const arrived = Promise.all([hold.arrival(), hold.arrival(), hold.arrival()]);
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(3));
    await arrived;
    socket.resetAndDestroy();
    assert.deepEqual(await hold.answered(), [false, false, false]);
    await stop({ graceMs: 60_000 });
  });

  test("answers an HTTP/1.1 client that has closed its own side", async (t) => {
    const { port } = await open(t);
    const socket = await connectTcp(t, port);
    socket.end("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert.match(await readToEnd(socket), /1\.1 GET 0/);
  });

  test("cuts a call off whose HTTP/1.1 client closes its own side while it waits", async (t) => {
    const hold = holdingHandler();
    const { port } = await open(t, { handler: hold.handler });
    const socket = await connectTcp(t, port);
    const arrived = hold.arrival();
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    await arrived;
    const received = readToEnd(socket);
    socket.end();
    assert.equal(await received, "");
    assert.deepEqual(await hold.answered(), [false]);
  });

  test("answers 400 to what is neither", async (t) => {
    const { port } = await open(t);
    const tlsHello = Buffer.from("16030100c8010000c40303", "hex");
    for (const bytes of [
      "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
      "\x00\x01\x02\x03 nonsense\r\n\r\n",
      tlsHello,
      "GET / HTTP/9.9\r\n\r\n",
    ]) {
      const socket = await connectTcp(t, port);
      socket.write(bytes);
      assert.match(await readToEnd(socket), /^HTTP\/1\.1 400 /);
    }
  });

  test("closes connections that end or break before they say anything", async (t) => {
    const { port, url } = await open(t);
    const ended = await connectTcp(t, port);
    ended.end();
    assert.equal(await readToEnd(ended), "");
    (await connectTcp(t, port)).resetAndDestroy();
    assert.equal((await http1(url, "/")).status, 200);
  });

  test("rejects where the port is taken", async (t) => {
    const { port } = await open(t);
    await assert.rejects(listen({ handler: echo, port }), { code: "EADDRINUSE" });
  });

  test("gives a wildcard address as loopback, and IPv6 in brackets", async (t) => {
    const wildcard = await open(t, { host: "0.0.0.0" });
    assert.equal(wildcard.url, `http://127.0.0.1:${wildcard.port}`);
    const ipv6 = await open(t, { host: "::1" });
    assert.equal(ipv6.url, `http://[::1]:${ipv6.port}`);
    assert.equal((await http1(ipv6.url, "/")).status, 200);
  });
});

suite("limits", () => {
  test("a client that does not say what it speaks is closed", async (t) => {
    const { port } = await open(t, { prefaceTimeoutMs: 50 });
    const silent = await connectTcp(t, port);
    const partial = await connectTcp(t, port);
    partial.write("PRI * HTTP");
    assert.deepEqual(await Promise.all([readToEnd(silent), readToEnd(partial)]), ["", ""]);
  });

  test("slow headers are answered 408, and so is a slow body", async (t) => {
    const { port } = await open(t, { headersTimeoutMs: 150, requestTimeoutMs: 300 });
    const slowHeaders = await connectTcp(t, port);
    slowHeaders.write("GET / HTTP/1.1\r\nhost:");
    const slowBody = await connectTcp(t, port);
    slowBody.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1");
    const [headers, body] = await Promise.all([readToEnd(slowHeaders), readToEnd(slowBody)]);
    assert.match(headers, /^HTTP\/1\.1 408 /);
    assert.match(body, /^HTTP\/1\.1 408 /);
  });

  test("large headers are answered 431, on HTTP/2 too", async (t) => {
    const { url } = await open(t, { maxHeaderBytes: 1_024 });
    const headers = { "x-large": "x".repeat(2_000) };
    assert.equal((await http1(url, "/", { headers })).status, 431);
    const session = connectHttp2(t, url);
    await once(session, "remoteSettings");
    await assert.rejects(http2Request(session, "/", { headers }), { code: "ERR_HTTP2_STREAM_ERROR" });
  });

  test("HTTP/1.1 requests beyond the limit of unanswered ones get 503", async (t) => {
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

  test("HTTP/2 streams beyond the limit wait for their turn", async (t) => {
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

  test("connections beyond the limit are closed as they come", async (t) => {
    const { port, url } = await open(t, { maxConnections: 1 });
    const first = await connectTcp(t, port);
    const second = await connectTcp(t, port);
    assert.equal(await readToEnd(second), "");
    first.destroy();
    await once(first, "close");
    // The server hears of the first one's end a moment later.
    for (;;) {
      const response = await http1(url, "/").catch(() => undefined);
      if (response?.status === 200) {
        break;
      }
    }
  });

  test("an idle HTTP/2 connection gets a GOAWAY, one with a running call does not", async (t) => {
    const hold = holdingHandler();
    const { url } = await open(t, { handler: hold.handler, idleSessionTimeoutMs: 100 });
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

  test("a silent HTTP/2 connection is pinged, and cut when it does not answer", async (t) => {
    const { port, url } = await open(t, { keepaliveTimeMs: 30, keepaliveTimeoutMs: 100 });
    const answering = connectHttp2(t, url);
    await once(answering, "connect");
    const silent = await connectTcp(t, port);
    silent.write(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}`);
    const received = await readToEnd(silent);
    assert.ok(received.includes("\0\0\x08\x06\0"), "a PING frame came");
    assert.equal(answering.destroyed, false);
    assert.equal((await http2Request(answering, "/")).status, 200);
  });

  test("an HTTP/2 connection that broke the protocol is closed soon, whatever its client does", async (t) => {
    const { port } = await open(t, { keepaliveTimeMs: 30, keepaliveTimeoutMs: 60_000 });
    const oversizeFrame = "\xff\xff\xff\0\0\0\0\0\0";
    const socket = await connectTcp(t, port);
    socket.write(Buffer.from(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}${oversizeFrame}`, "latin1"));
    assert.match(await readToEnd(socket), /too large frame size/);
  });

  test("a client that does not read is cut, one that waits is not", async (t) => {
    let answer = () => {};
    let cut: () => void = () => {};
    const closed = new Promise<void>((resolve) => (cut = resolve));
    const { port, url } = await open(t, {
      writeTimeoutMs: 100,
      handler(request, response) {
        if (request.url === "/wait") {
          answer = () => response.end("done");
          return;
        }
        response.once("close", cut);
        response.end(Buffer.alloc(50_000_000));
      },
    });
    const waiting = http1(url, "/wait");
    const socket = await connectTcp(t, port);
    socket.pause();
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    await closed;
    answer();
    assert.equal((await waiting).text, "done");
  });

  test("an HTTP/2 client that answers PINGs but gives no window is cut, one that waits is not", async (t) => {
    let answer = () => {};
    const { url } = await open(t, {
      keepaliveTimeMs: 20,
      writeTimeoutMs: 200,
      handler(request, response) {
        if (request.url === "/wait") {
          answer = () => response.end("done");
        } else {
          response.end("a long answer");
        }
      },
    });
    const waiting = http2Request(connectHttp2(t, url), "/wait");
    const session = http2.connect(url, { settings: { initialWindowSize: 0 } });
    session.on("error", () => {});
    t.after(() => session.destroy());
    session.request({ ":path": "/" }).on("error", () => {});
    await once(session, "close");
    answer();
    assert.equal((await waiting).text, "done");
  });

  test("nonsense is refused by name", async () => {
    for (const maxConnections of [0, -1, 1.5, Number.NaN]) {
      await assert.rejects(listen({ handler: echo, port: 0, maxConnections }), {
        name: "RangeError",
        message: `maxConnections must be a positive whole number, not ${maxConnections}`,
      });
    }
  });
});

suite("stop", () => {
  test("closes idle connections of both kinds at once", async (t) => {
    const { url, port, stop } = await open(t);
    const agent = new http.Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    const response = await new Promise<http.IncomingMessage>((resolve) => http.get(url, { agent }, resolve));
    response.resume();
    await once(response, "end");
    const session = connectHttp2(t, url);
    await http2Request(session, "/");
    const silent = await connectTcp(t, port);
    const closed = Promise.all([once(session, "close"), readToEnd(silent)]);
    await stop({ graceMs: 60_000 });
    await closed;
    await assert.rejects(http1(url, "/"), { code: "ECONNREFUSED" });
  });

  test("lets running calls finish, and takes no new ones", async (t) => {
    const hold = holdingHandler();
    const { url, stop } = await open(t, { handler: hold.handler });
    const session = connectHttp2(t, url);
    const agent = new http.Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    const arrivals = Promise.all([hold.arrival(), hold.arrival()]);
    const overHttp2 = http2Request(session, "/");
    const overHttp1 = new Promise<http.IncomingMessage>((resolve) => http.get(url, { agent }, resolve));
    await arrivals;

    const goaway = once(session, "goaway");
    const stopped = stop({ graceMs: 60_000 });
    assert.equal(stop({ graceMs: 0 }), stopped, "a second stop waits for the first");
    await goaway;
    assert.throws(() => session.request({ ":path": "/" }), { code: "ERR_HTTP2_GOAWAY_SESSION" });
    hold.release();
    assert.equal((await overHttp2).text, "done");
    const response = await overHttp1;
    assert.equal(response.headers.connection, "close");
    response.resume();
    await stopped;
    assert.deepEqual(await hold.answered(), [true, true]);
  });

  test("closes a keep-alive connection whose response had begun before the drain", async (t) => {
    const calls: http.ServerResponse[] = [];
    const { url, stop } = await open(t, {
      handler(_, response) {
        if (!(response instanceof http.ServerResponse)) {
          return;
        }
        calls.push(response);
        response.write("begun ");
      },
    });
    const agent = new http.Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    const response = await new Promise<http.IncomingMessage>((resolve) => http.get(url, { agent }, resolve));
    const stopped = stop({ graceMs: 60_000 });
    calls[0]?.end("ended");
    assert.equal((await response.toArray()).join(""), "begun ended");
    await stopped;
  });

  test("cancels after the grace, and then cuts off", async (t) => {
    const hold = holdingHandler();
    const { url, stop } = await open(t, { handler: hold.handler });
    const arrivals = Promise.all([hold.arrival(), hold.arrival()]);
    const calls = [http1(url, "/"), http2Request(connectHttp2(t, url), "/")];
    const outcomes = Promise.allSettled(calls);
    await arrivals;
    let cancelled = 0;
    await stop({ graceMs: 20, cancelMs: 20, cancel: () => cancelled++ });
    assert.equal(cancelled, 1);
    assert.deepEqual(await hold.answered(), [false, false]);
    assert.equal((await outcomes)[0]?.status, "rejected");
  });

  test("what is cancelled may still answer", async (t) => {
    const hold = holdingHandler();
    const { url, stop } = await open(t, { handler: hold.handler });
    const arrived = hold.arrival();
    const call = http2Request(connectHttp2(t, url), "/");
    await arrived;
    await stop({ graceMs: 10, cancelMs: 60_000, cancel: hold.release });
    assert.equal((await call).text, "done");
  });

  test("does not call cancel where nothing runs", async (t) => {
    const { stop } = await open(t);
    await stop({ graceMs: 0, cancel: () => assert.fail("cancelled") });
  });
});
