import assert from "node:assert/strict";
import { once } from "node:events";
import * as net from "node:net";
import { suite, type TestContext, test } from "node:test";
import type { ListenOptions } from "../../../src/mesh/port/listen.js";
import { respondPlain } from "../../../src/mesh/port/node-handler.js";
import { open } from "../support/open-port.js";

/** Bytes of the announced body. More than the buffers of a connection on loopback hold. */
const bodyBytes = 32_000_000;

/** A client that has sent the head of a large request, and a server that has answered it. */
async function answeredEarly(t: TestContext, options: Partial<ListenOptions> = {}) {
  let requests = 0;
  let markAnswered = () => {};
  const answered = new Promise<void>((resolve) => (markAnswered = resolve));
  const { port, stop } = await open(t, {
    ...options,
    handler(request, response) {
      requests++;
      response.once("close", markAnswered);
      respondPlain(response, 413, "too large");
      request.resume();
    },
  });
  const socket = net.connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  t.after(() => socket.destroy());
  await once(socket, "connect");
  const closed = new Promise<Error | undefined>((resolve) => {
    socket.once("error", resolve).once("close", () => resolve(undefined));
  });
  socket.write(`POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${bodyBytes}\r\n\r\n`);
  await answered;
  return { socket, closed, stop, requests: () => requests };
}

/** Writes zeros, and reads nothing meanwhile. Rejects when the connection fails. */
async function sendBody(socket: net.Socket, length: number): Promise<void> {
  socket.pause();
  const piece = Buffer.alloc(1_000_000);
  for (let sent = 0; sent < length; sent += piece.length) {
    await new Promise<void>((resolve, reject) => socket.write(piece, (error) => (error ? reject(error) : resolve())));
  }
}

async function readAll(socket: net.Socket): Promise<string> {
  return Buffer.concat(await socket.toArray()).toString();
}

suite("HTTP/1.1 connection that is answered before the body has arrived, and is to be closed", () => {
  test("client that sends its whole body before it reads gets the response", async (t) => {
    const { socket } = await answeredEarly(t);
    await sendBody(socket, bodyBytes);
    socket.end();
    assert.match(await readAll(socket), /^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*too large/i);
  });

  test("bytes after the body are no request", async (t) => {
    const { socket, requests } = await answeredEarly(t);
    await sendBody(socket, bodyBytes);
    socket.end("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert.equal((await readAll(socket)).match(/HTTP\/1\.1/g)?.length, 1);
    assert.equal(requests(), 1);
  });

  test("client that neither sends nor closes is disconnected after lingerMs", async (t) => {
    const { stop } = await answeredEarly(t, { lingerMs: 50 });
    // Waits for all connections.
    await stop({ graceMs: 600_000 });
  });

  test("client that sends more than lingerBytes is disconnected", async (t) => {
    const { socket, closed } = await answeredEarly(t, { lingerMs: 600_000, lingerBytes: 2_000_000 });
    await sendBody(socket, bodyBytes).catch(() => {});
    assert.match(String(await closed), /EPIPE|ECONNRESET/);
  });

  test("client that disconnects leaves nothing open", async (t) => {
    const { socket, stop } = await answeredEarly(t, { lingerMs: 600_000 });
    socket.destroy();
    await stop({ graceMs: 600_000 });
  });
});
