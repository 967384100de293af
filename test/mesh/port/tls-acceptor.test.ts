import assert from "node:assert/strict";
import { once } from "node:events";
import * as http2 from "node:http2";
import * as https from "node:https";
import { suite, type TestContext, test } from "node:test";
import * as tls from "node:tls";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createAuthority, writeCertificate } from "../../support/certificates.js";
import { holdingHandler } from "../support/open-port.js";
import { connectTcp, http2Request, readHttp2, readToEnd } from "../support/raw-http.js";
import { openTls, serverFiles, watchMaterial } from "../support/tls-port.js";

/** GET over HTTP/1.1, on a connection of its own. Resolves with the text and the server's certificate. */
async function get(
  url: string,
  options: https.RequestOptions & tls.ConnectionOptions,
): Promise<{ text: string; subject: unknown }> {
  const request = https.get(url, { agent: false, ...options });
  const [response] = await once(request, "response");
  const subject = response.socket.getPeerCertificate().subject.CN;
  return { text: (await response.toArray()).join(""), subject };
}

function connectH2(
  t: TestContext,
  url: string,
  options: http2.SecureClientSessionOptions = {},
): http2.ClientHttp2Session {
  const session = http2.connect(url, options);
  session.on("error", () => {});
  t.after(() => session.destroy());
  return session;
}

suite("one port with TLS", async () => {
  const authority = await createAuthority();
  const ca = authority.cert;
  const open = async (t: TestContext, options: Parameters<typeof openTls>[2] = {}) => {
    const { material } = watchMaterial(t, await serverFiles(await temporaryFolder(), authority));
    return openTls(t, material, options);
  };

  test("TLS port serves HTTP/1.1 and HTTP/2 by ALPN, and HTTP/1.1 without ALPN", async (t) => {
    const { url, port } = await open(t);
    assert.equal(url, `https://127.0.0.1:${port}`);
    assert.equal((await get(url, { ca })).text, "1.1 GET 0");
    assert.equal((await get(url, { ca, ALPNProtocols: ["http/1.1"] })).text, "1.1 GET 0");
    const session = connectH2(t, url, { ca });
    assert.equal((await http2Request(session, "/", { body: "four" })).text, "2.0 POST 4");
    assert.equal(session.alpnProtocol, "h2");
  });

  test("TLS port accepts TLS 1.3 and 1.2 with forward secrecy, and nothing older or weaker", async (t) => {
    const { port } = await open(t);
    const connect = async (options: tls.ConnectionOptions) => {
      const socket = tls.connect({ port, host: "127.0.0.1", ca, ...options });
      t.after(() => socket.destroy());
      await once(socket, "secureConnect");
      return `${socket.getProtocol()} ${socket.getCipher().name}`;
    };
    assert.match(await connect({}), /^TLSv1\.3 /);
    assert.match(await connect({ maxVersion: "TLSv1.2" }), /^TLSv1\.2 ECDHE-/);
    const weak = "@SECLEVEL=0";
    for (const rejected of [
      { minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: `ALL:${weak}` },
      { maxVersion: "TLSv1.2", ciphers: `ECDHE-ECDSA-AES128-SHA:${weak}` },
      { maxVersion: "TLSv1.2", ciphers: `AES128-GCM-SHA256:${weak}` },
      { ALPNProtocols: ["spdy/3"] },
    ] as const) {
      await assert.rejects(connect(rejected), /ALERT|alert|handshake|protocol|ECONNRESET/i);
    }
  });

  test("TLS port closes connections that are not TLS or stay silent", async (t) => {
    const { port, url } = await open(t, { prefaceTimeoutMs: 3_000 });
    const plain = await connectTcp(t, port);
    plain.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    const silent = await connectTcp(t, port);
    const [answer] = await Promise.all([readToEnd(plain), readToEnd(silent)]);
    assert.doesNotMatch(answer, /HTTP/);
    assert.equal((await get(url, { ca })).text, "1.1 GET 0");
  });

  test("port with optional TLS serves both versions of HTTP with it and without, and closes silent connections", async (t) => {
    const { url, port } = await open(t, { isOptional: true, prefaceTimeoutMs: 3_000 });
    assert.equal(url, `http://127.0.0.1:${port}`);
    const silent = readToEnd(await connectTcp(t, port));
    const halfHello = await connectTcp(t, port);
    halfHello.write(Buffer.from([0x16, 3]));
    const secure = `https://127.0.0.1:${port}`;
    assert.equal((await get(secure, { ca })).text, "1.1 GET 0");
    assert.equal((await http2Request(connectH2(t, secure, { ca }), "/", { body: "four" })).text, "2.0 POST 4");
    assert.equal(await (await fetch(url)).text(), "1.1 GET 0");
    assert.equal((await http2Request(connectH2(t, url), "/", { body: "four" })).text, "2.0 POST 4");
    assert.deepEqual(await Promise.all([silent, readToEnd(halfHello)]), ["", ""]);
  });

  test("TLS port stops with running calls, idle connections and an unfinished handshake", async (t) => {
    const hold = holdingHandler();
    const { port, url, stop } = await open(t, { handler: hold.handler });
    const session = connectH2(t, url, { ca });
    const arrived = hold.arrival();
    const call = http2Request(session, "/");
    await arrived;
    const silent = await connectTcp(t, port);
    const agent = new https.Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    const other = hold.arrival();
    const kept = get(url, { ca, agent });
    await other;
    const stopped = stop({ graceMs: 60_000 });
    await readToEnd(silent);
    hold.release();
    assert.equal((await call).text, "done");
    assert.equal((await kept).text, "done");
    await stopped;
    assert.deepEqual(await hold.answered(), [true, true]);
  });

  test("TLS port closes running calls after the grace period", async (t) => {
    const hold = holdingHandler();
    const { url, stop } = await open(t, { handler: hold.handler });
    const arrived = hold.arrival();
    const call = assert.rejects(get(url, { ca }));
    await arrived;
    await stop({ graceMs: 10, cancelMs: 10 });
    await call;
    assert.deepEqual(await hold.answered(), [false]);
  });

  test("TLS port uses a changed certificate for new connections and closes no open one", async (t) => {
    const folder = await temporaryFolder();
    const watched = watchMaterial(t, await serverFiles(folder, authority, { name: "first" }));
    const hold = holdingHandler();
    const { url } = await openTls(t, watched.material, {
      handler: (request, response) =>
        request.url === "/held" ? hold.handler(request, response) : void response.end("ok"),
    });
    const session = connectH2(t, url, { ca });
    const arrived = hold.arrival();
    const held = readHttp2(session.request({ ":path": "/held" }));
    await arrived;
    assert.equal((await get(url, { ca })).subject, "first");

    const changed = watched.change();
    await writeCertificate(folder, "server", await authority.issue({ name: "second" }));
    await changed;
    assert.equal((await get(url, { ca })).subject, "second");
    hold.release();
    assert.equal((await held).text, "done");
    assert.equal((await http2Request(session, "/")).text, "ok");
  });

  test("TLS port keeps the old certificate when the new one is invalid, and reports why", async (t) => {
    const folder = await temporaryFolder();
    const watched = watchMaterial(t, await serverFiles(folder, authority, { name: "first" }));
    const { url } = await openTls(t, watched.material);
    const rejection = watched.rejection();
    await writeCertificate(folder, "server", await authority.issue({ name: "late", fromHours: -2, untilHours: -1 }));
    assert.match(String(await rejection), /server\.crt expired on /);
    assert.equal((await get(url, { ca })).subject, "first");
    const changed = watched.change();
    await writeCertificate(folder, "server", await authority.issue({ name: "good" }));
    await changed;
    assert.equal((await get(url, { ca })).subject, "good");
  });
});

suite("client certificates", async () => {
  const authority = await createAuthority();
  const untrusted = await createAuthority();
  const known = await authority.issue({ name: "worker" });
  const unknown = await untrusted.issue({ name: "worker" });
  const expired = await authority.issue({ name: "worker", fromHours: -3, untilHours: -2 });
  const ca = authority.cert;
  const open = async (t: TestContext, clientCertificate: "optional" | "required") => {
    const { material } = watchMaterial(t, await serverFiles(await temporaryFolder(), authority));
    return openTls(t, material, {
      clientCertificate,
      handler: (request, response) =>
        void response.end(String("authorized" in request.socket && request.socket.authorized)),
    });
  };

  test("required client certificate: only a valid one of the authority is accepted", async (t) => {
    const { url } = await open(t, "required");
    assert.equal((await get(url, { ca, ...known })).text, "true");
    const session = connectH2(t, url, { ca, ...known });
    assert.equal((await http2Request(session, "/")).text, "true");
    for (const credentials of [{}, unknown, expired]) {
      await assert.rejects(get(url, { ca, ...credentials }), /alert|ECONNRESET|EPIPE|socket hang up/i);
      const rejected = connectH2(t, url, { ca, ...credentials });
      const answer = await http2Request(rejected, "/").catch(() => undefined);
      assert.ok(answer === undefined || answer.status === 0);
    }
  });

  test("optional client certificate: an invalid one counts as none", async (t) => {
    const { url } = await open(t, "optional");
    assert.equal((await get(url, { ca, ...known })).text, "true");
    for (const credentials of [{}, unknown, expired]) {
      assert.equal((await get(url, { ca, ...credentials })).text, "false");
    }
  });
});
