import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, readdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import test, { type TestContext } from "node:test";
import { createDirectoryStore } from "../../src/image/directory-store.js";
import { createImageRoute, imageUrl } from "../../src/image/image-route.js";
import { ImageStoreError } from "../../src/image/image-store-error.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";

async function folder(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "throughline-store-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** The store does not look into an image, so any bytes will do. */
const image = (fill: number, size = 100) =>
  ({ bytes: new Uint8Array(size).fill(fill), format: "png", width: 1, height: 1 }) as const;

test("equal images share a name made from their content and are returned unchanged", async (t) => {
  const directory = await folder(t);
  const store = await createDirectoryStore({ directory });
  const name = await store.put(image(1));
  assert.match(name, /^[0-9a-f]{32}\.png$/);
  assert.equal(await store.put(image(1)), name);
  assert.notEqual(await store.put(image(2)), name);
  assert.deepEqual(new Uint8Array((await store.get(name))?.bytes ?? []), image(1).bytes);
  assert.equal((await readdir(directory)).length, 2);
});

test("no name leads out of the folder", async (t) => {
  const directory = await folder(t);
  await writeFile(join(directory, "secret.png"), "secret");
  const store = await createDirectoryStore({ directory: join(directory, "images") });
  for (const name of [
    "../secret.png",
    "..%2fsecret.png",
    "/etc/passwd",
    "",
    ".",
    `${"0".repeat(32)}.png/../../secret.png`,
  ]) {
    assert.equal(await store.get(name), undefined, name);
  }
});

test("least recently used image is deleted over the byte limit", async (t) => {
  const directory = await folder(t);
  const store = await createDirectoryStore({ directory, maxBytes: 250 });
  const first = await store.put(image(1));
  const second = await store.put(image(2));
  await store.get(first);
  const third = await store.put(image(3));
  assert.equal(await store.get(second), undefined);
  assert.ok((await store.get(first)) && (await store.get(third)));
  await assert.rejects(store.put(image(4, 251)), /251 bytes does not fit into a store of 250/);
});

test("expired image is deleted, also after a restart, and temporary files of a crash are removed", async (t) => {
  const directory = await folder(t);
  const before = await createDirectoryStore({ directory });
  const old = await before.put(image(1));
  const young = await before.put(image(2));
  const hourAgo = new Date(Date.now() - 3_600_000);
  await utimes(join(directory, old), hourAgo, hourAgo);
  const [crashed, written] = ["0", "1"].map((digit) =>
    join(directory, `${old}.${digit.repeat(8)}-0000-0000-0000-000000000000.tmp`),
  );
  assert.ok(crashed && written);
  await writeFile(crashed, "half");
  await utimes(crashed, hourAgo, new Date(Date.now() - 3_601_000));
  await writeFile(written, "half");
  await writeFile(join(directory, "notes.txt"), "not ours");

  const after = await createDirectoryStore({ directory, maxAgeMs: 60_000 });
  assert.equal(await after.get(old), undefined);
  assert.ok(await after.get(young));
  const names = await readdir(directory);
  assert.ok(names.includes("notes.txt"));
  assert.deepEqual(
    names.filter((name) => name.endsWith(".tmp")),
    [basename(written)],
    "another process may be writing the new one",
  );
});

test("stores that share a folder return each other's images", async (t) => {
  const directory = await folder(t);
  const [one, other] = [
    await createDirectoryStore({ directory }),
    await createDirectoryStore({ directory, maxAgeMs: 60_000 }),
  ];
  const name = await one.put(image(1));
  assert.deepEqual(new Uint8Array((await other.get(name))?.bytes ?? []), image(1).bytes);
  const old = await one.put(image(2));
  const hourAgo = new Date(Date.now() - 3_600_000);
  await utimes(join(directory, old), hourAgo, hourAgo);
  assert.equal(await other.get(old), undefined, "its time is over there");
  await rm(join(directory, name));
  assert.equal(await one.get(name), undefined);
  await other.put(image(1));
  assert.ok(await one.get(name));
});

test("store does not delete an image over its byte limit that another store has stored again", async (t) => {
  const directory = await folder(t);
  const small = await createDirectoryStore({ directory, maxBytes: 250 });
  const name = await small.put(image(1));
  const large = await createDirectoryStore({ directory });
  const later = new Date(Date.now() + 1_000);
  await large.put(image(1));
  // As if a second had passed.
  await utimes(join(directory, name), later, later);
  await small.put(image(2));
  await small.put(image(3));
  // After the eviction, which is a task before this one.
  assert.ok(await small.get(name));
  assert.ok(await large.get(name));
  const own = await small.put(image(4));
  await small.put(image(5));
  await small.put(image(6));
  assert.equal(await small.get(own), undefined, "its own ones go as before");
});

test("store does not delete an expired image that another store has stored again, until that one's time is over", async (t) => {
  const directory = await folder(t);
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
  t.mock.method(performance, "now", () => Date.now());
  const store = await createDirectoryStore({ directory, maxAgeMs: 60_000, onRemoveError: assert.fail });
  const name = await store.put(image(1));
  const again = new Date(Date.now() + 30_000);
  await utimes(join(directory, name), again, again);
  t.mock.timers.tick(61_000);
  assert.ok(await store.get(name), "30 s are left");
  t.mock.timers.tick(61_000);
  assert.equal(await store.get(name), undefined);
  assert.deepEqual(await readdir(directory), []);
});

test("failed write leaves no file", async (t) => {
  const directory = await folder(t);
  const store = await createDirectoryStore({ directory });
  await rm(directory, { recursive: true });
  await writeFile(directory, "a file where the folder was");
  await assert.rejects(store.put(image(1)), /ENOTDIR|EEXIST/);
});

test("full disk is reported as ImageStoreError, leaves no file, and later images are stored", async (t) => {
  const directory = await folder(t);
  const store = await createDirectoryStore({ directory });
  const file = await open(join(directory, "any"), "w");
  await file.close();
  await rm(join(directory, "any"));
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  const write = t.mock.method(Object.getPrototypeOf(file), "writeFile", () => Promise.reject(full));
  await assert.rejects(store.put(image(1)), (error) => {
    assert.ok(error instanceof ImageStoreError);
    assert.equal(error.cause, full);
    return true;
  });
  assert.deepEqual(await readdir(directory), []);
  write.mock.restore();
  assert.ok(await store.get(await store.put(image(1))));
});

test("deleted folder is created again", async (t) => {
  const directory = await folder(t);
  const store = await createDirectoryStore({ directory });
  await rm(directory, { recursive: true });
  const name = await store.put(image(1));
  assert.ok(await store.get(name));
});

test("files that are no valid images do not prevent the start and are not served", async (t) => {
  const directory = await folder(t);
  const names = ["0", "1", "2", "3"].map((digit) => `${digit.repeat(32)}.png`);
  const [empty = "", link = "", broken = "", sub = ""] = names;
  await writeFile(join(directory, "secret"), "secret");
  await writeFile(join(directory, empty), "");
  await symlink(join(directory, "secret"), join(directory, link));
  await symlink(join(directory, "nothing"), join(directory, broken));
  await mkdir(join(directory, sub));
  const store = await createDirectoryStore({ directory });
  for (const name of names) {
    assert.equal(await store.get(name), undefined);
  }
  const own = await store.put(image(9));
  await rm(join(directory, own));
  await symlink(join(directory, "secret"), join(directory, own));
  assert.equal(await store.get(own), undefined);
});

test("image that is stored again while it is evicted remains", async (t) => {
  const store = await createDirectoryStore({ directory: await folder(t), maxBytes: 250 });
  for (let round = 0; round < 50; round++) {
    const names = await Promise.all([1, 2, 3, 1, 2, 3].map((fill) => store.put(image(fill))));
    const found = await Promise.all([...new Set(names)].map((name) => store.get(name)));
    assert.equal(found.filter((image) => image !== undefined).length, 2, `round ${round}`);
  }
});

test("invalid limits are rejected with their value", async (t) => {
  const directory = await folder(t);
  await assert.rejects(
    createDirectoryStore({ directory, maxBytes: 0 }),
    /maxBytes must be a whole number of at least 1, got 0/,
  );
  await assert.rejects(createDirectoryStore({ directory, maxAgeMs: Number.NaN }), /maxAgeMs .* got NaN/);
});

test("image route serves images only", async (t) => {
  const directory = await folder(t);
  const store = await createDirectoryStore({ directory });
  const name = await store.put(image(7));
  const route = createImageRoute(store);
  const server = createServer((request, response) => {
    if (!route(request, response)) {
      response.writeHead(418).end();
    }
  });
  const { url: base } = await listenOnLoopback(t, server);

  const found = await fetch(imageUrl(base, name));
  assert.equal(found.status, 200);
  assert.equal(found.headers.get("content-type"), "image/png");
  assert.equal(found.headers.get("x-content-type-options"), "nosniff");
  assert.deepEqual(new Uint8Array(await found.arrayBuffer()), new Uint8Array(await readFile(join(directory, name))));
  const head = await fetch(imageUrl(base, name), { method: "HEAD" });
  assert.deepEqual(
    [head.status, head.headers.get("content-length"), (await head.arrayBuffer()).byteLength],
    [200, "100", 0],
  );
  assert.equal((await fetch(`${base}/images/${"0".repeat(32)}.png`)).status, 404);
  assert.equal((await fetch(`${base}/images/..%2f..%2fetc%2fpasswd`)).status, 404);
  assert.equal((await fetch(imageUrl(base, name), { method: "POST", body: "x" })).status, 405);
  assert.equal((await fetch(`${base}/elsewhere`)).status, 418);
});
