import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { listen } from "../../src/mesh/port/listen.js";
import { respondPlain } from "../../src/mesh/port/node-handler.js";
import { createPageRoute } from "../../src/studio/page-route.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { http1, type RawRequest } from "../mesh/support/raw-http.js";

const script = "console.log('studio');\n".repeat(1000);

async function servePage(t: TestContext, folder: string) {
  const route = await createPageRoute(folder);
  const { url, stop } = await listen({
    port: 0,
    handler: (asked, response) => {
      if (!route(asked, response)) {
        respondPlain(response, 418, "not the page's");
      }
    },
  });
  t.after(() => stop({ graceMs: 0 }));
  return Object.assign((path: string, options: RawRequest = {}) => http1(url, path, { method: "GET", ...options }), {
    port: Number(new URL(url).port),
  });
}

/** The status of a path that is sent as it is. */
async function statusOf(port: number, path: string): Promise<number | undefined> {
  const sent = request({ port, path, agent: false }).end();
  const [response] = await once(sent, "response");
  response.resume();
  return response.statusCode;
}

async function pageFolder() {
  const folder = join(await temporaryFolder(), "page");
  await mkdir(join(folder, "inner"), { recursive: true });
  await writeFile(join(folder, "..", "secret.js"), "secret");
  await writeFile(join(folder, "index.html"), "<!doctype html><title>studio</title>");
  await writeFile(join(folder, "studio.js"), script);
  await writeFile(join(folder, "notes.txt"), "no file of a page");
  await writeFile(join(folder, "inner", "index.html"), "not in the folder itself");
  await symlink(join(folder, "..", "secret.js"), join(folder, "link.js"));
  return folder;
}

test("/ is index.html, and each file has its type, policy and ETag", async (t) => {
  const get = await servePage(t, await pageFolder());
  const index = await get("/");
  assert.equal(index.status, 200);
  assert.equal(index.headers["content-type"], "text/html; charset=utf-8");
  assert.equal(String(index.body), "<!doctype html><title>studio</title>");
  const code = await get("/studio.js?v=1");
  assert.equal(code.headers["content-type"], "text/javascript; charset=utf-8");
  assert.equal(String(code.body), script);
  for (const { headers } of [index, code]) {
    assert.equal(
      headers["content-security-policy"],
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: http: https:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["referrer-policy"], "no-referrer");
    assert.equal(headers["cache-control"], "no-cache");
    assert.match(String(headers.etag), /^W\/"[\w-]{22}"$/);
  }
});

test("browser with a current file gets 304", async (t) => {
  const get = await servePage(t, await pageFolder());
  const { headers } = await get("/studio.js");
  const again = await get("/studio.js", { headers: { "if-none-match": `"other", ${headers.etag}` } });
  assert.deepEqual([again.status, again.body.length, again.headers.etag], [304, 0, headers.etag]);
  assert.equal((await get("/studio.js", { headers: { "if-none-match": '"other"' } })).status, 200);
});

test("files are compressed for browsers that accept it", async (t) => {
  const get = await servePage(t, await pageFolder());
  for (const [accepted, encoding, unpack] of [
    ["gzip, deflate, br, zstd", "br", brotliDecompressSync],
    ["gzip, br;q=0", "gzip", gunzipSync],
    ["identity", undefined, (bytes: Buffer) => bytes],
  ] as const) {
    for (let i = 0; i < 2; i++) {
      const { headers, body } = await get("/studio.js", { headers: { "accept-encoding": accepted } });
      assert.equal(headers["content-encoding"], encoding);
      assert.equal(Number(headers["content-length"]), body.length);
      assert.equal(String(unpack(body)), script);
      assert.ok(encoding === undefined || body.length < 1000);
    }
  }
});

test("HEAD has the headers and no body, and other methods are rejected", async (t) => {
  const get = await servePage(t, await pageFolder());
  const head = await get("/studio.js", { method: "HEAD" });
  assert.deepEqual([head.status, head.headers["content-length"], head.body.length], [200, String(script.length), 0]);
  const post = await get("/", { method: "POST", body: "x" });
  assert.deepEqual([post.status, post.headers.allow], [405, "GET, HEAD"]);
});

test("no path leads to anything but the page's own files", async (t) => {
  const { port } = await servePage(t, await pageFolder());
  for (const path of [
    "/../secret.js",
    "/..%2fsecret.js",
    "/%2e%2e/secret.js",
    "/..\\secret.js",
    "//secret.js",
    "/./studio.js",
    "/studio.js/",
    "/studio%2ejs",
    "/STUDIO.JS",
    "/link.js",
    "/notes.txt",
    "/inner",
    "/inner/index.html",
    "/__proto__",
    "/constructor",
    "/studio.js%00",
    "*",
    "http://elsewhere/studio.js",
  ]) {
    assert.equal(await statusOf(port, path), 418, path);
  }
  assert.equal(await statusOf(port, "/studio.js"), 200);
});

test("/ explains the build when the page is not built, and other paths are not handled", async (t) => {
  const get = await servePage(t, join(await temporaryFolder(), "missing"));
  const { status, body } = await get("/");
  assert.equal(status, 404);
  assert.match(String(body), /npm run build/);
  assert.equal((await get("/studio.js")).status, 418);
});
