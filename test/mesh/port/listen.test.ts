import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import { suite, test } from "node:test";
import { listen } from "../../../src/mesh/port/listen.js";
import { echo, emptySettings, holdingHandler, open } from "../support/open-port.js";
import { connectHttp2, connectTcp, http1, http2Request, readToEnd } from "../support/raw-http.js";

suite("one port", () => {
  test("port serves HTTP/1.1 and HTTP/2", async (t) => {
    const { url, port, host } = await open(t);
    assert.equal(url, `http://127.0.0.1:${port}`);
    assert.equal(host, "127.0.0.1");
    assert.equal((await http1(url, "/", { body: "four" })).text, "1.1 POST 4");
    assert.equal((await http2Request(connectHttp2(t, url), "/", { body: "four" })).text, "2.0 POST 4");
  });

  test("port answers requests that arrive byte by byte", async (t) => {
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

  test("port answers pipelined HTTP/1.1 requests in order", async (t) => {
    const { port } = await open(t);
    const socket = await connectTcp(t, port);
    const get = (path: string, rest = "") => `GET /${path} HTTP/1.1\r\nhost: x\r\n${rest}\r\n`;
    socket.write(get("a") + get("b") + get("c", "connection: close\r\n"));
    assert.equal((await readToEnd(socket)).match(/1\.1 GET 0/g)?.length, 3);
  });

  test("port ends all pipelined requests when the client disconnects", async (t) => {
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

  test("port answers an HTTP/1.1 client that has closed its sending side", async (t) => {
    const { port } = await open(t);
    const socket = await connectTcp(t, port);
    socket.end("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert.match(await readToEnd(socket), /1\.1 GET 0/);
  });

  test("port cancels a call whose HTTP/1.1 client closes its sending side while waiting", async (t) => {
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

  test("port answers 400 to bytes that are neither HTTP/1.1 nor HTTP/2", async (t) => {
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

  test("port closes connections that end or break before their first byte", async (t) => {
    const { port, url } = await open(t);
    const ended = await connectTcp(t, port);
    ended.end();
    assert.equal(await readToEnd(ended), "");
    (await connectTcp(t, port)).resetAndDestroy();
    assert.equal((await http1(url, "/")).status, 200);
  });

  test("listen rejects with EADDRINUSE when the port is in use", async (t) => {
    const { port } = await open(t);
    await assert.rejects(listen({ handler: echo, port }), { code: "EADDRINUSE" });
  });

  test("listen returns loopback for a wildcard address, and IPv6 in brackets", async (t) => {
    const wildcard = await open(t, { host: "0.0.0.0" });
    assert.equal(wildcard.url, `http://127.0.0.1:${wildcard.port}`);
    const ipv6 = await open(t, { host: "::1" });
    assert.equal(ipv6.url, `http://[::1]:${ipv6.port}`);
    assert.equal((await http1(ipv6.url, "/")).status, 200);
  });
});

suite("stop", () => {
  test("stop closes idle HTTP/1.1 and HTTP/2 connections at once", async (t) => {
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

  test("stop lets running calls finish and accepts no new ones", async (t) => {
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
    const [rejected] = await once(http.get(url), "error");
    assert.equal(rejected.code, "ECONNREFUSED");
    hold.release();
    assert.equal((await overHttp2).text, "done");
    const response = await overHttp1;
    assert.equal(response.headers.connection, "close");
    response.resume();
    await stopped;
    assert.deepEqual(await hold.answered(), [true, true]);
  });

  test("stop closes a keep-alive connection whose response had begun before the drain", async (t) => {
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

  test("stop cancels calls after the grace period and then closes their connections", async (t) => {
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

  test("cancelled call may still answer during stop", async (t) => {
    const hold = holdingHandler();
    const { url, stop } = await open(t, { handler: hold.handler });
    const arrived = hold.arrival();
    const call = http2Request(connectHttp2(t, url), "/");
    await arrived;
    await stop({ graceMs: 10, cancelMs: 60_000, cancel: hold.release });
    assert.equal((await call).text, "done");
  });

  test("stop does not call cancel when nothing runs", async (t) => {
    const { stop } = await open(t);
    await stop({ graceMs: 0, cancel: () => assert.fail("cancelled") });
  });
});
