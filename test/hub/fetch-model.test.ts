import assert from "node:assert/strict";
import { once } from "node:events";
import { lstat, mkdir, readdir, readFile, readlink, rm, symlink, watch, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { type DownloadProgress, type FetchModelOptions, fetchModel } from "../../src/hub/fetch-model.js";
import { HubError } from "../../src/hub/hub-fetch.js";
import { createModelCache } from "../../src/hub/model-cache.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { type HubRequest, type HubServer, type HubServerOptions, hubCommit, startHub } from "../support/hub-server.js";

const timeouts = { attempts: 3, retryMs: 1, staleMs: 250 };
const model = { name: "acme/tiny-xl", revision: "main" };
const weights = "unet/model.onnx_data";

describe("Hub model", async () => {
  const home = await temporaryFolder();
  const repository = join(home, "repository");
  let folders = 0;
  before(async () => {
    await makeSdxlFolder(repository, { dataFile: "model.onnx_data", throughline: { defaultSteps: 2 } });
    // What others need of the same model.
    await writeFile(join(repository, "unet/diffusion_pytorch_model.safetensors"), Buffer.alloc(50_000));
    await writeFile(join(repository, "sample.png"), Buffer.alloc(20_000));
    await writeFile(join(repository, "tokenizer/tokenizer.json"), "{}");
  });

  const hub = (options: Partial<HubServerOptions> = {}): Promise<HubServer> =>
    startHub({ folder: repository, ...options });
  const newCache = (): string => join(home, `cache-${++folders}`);
  const fetchFrom = (server: HubServer, cacheFolder: string, options: Partial<FetchModelOptions> = {}) =>
    fetchModel({ model, cacheFolder, endpoint: server.url, timeouts, ...options });
  const repositoryFile = (file: string): Promise<Buffer> => readFile(join(repository, file));
  const blobsOf = (cache: string): Promise<string[]> => readdir(join(cache, "models--acme--tiny-xl/blobs"));

  async function failure(fetching: Promise<unknown>): Promise<HubError> {
    const error = await fetching.then(
      () => assert.fail("it was fetched"),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof HubError, String(error));
    assert.match(error.message, /^model acme\/\S+: /);
    return error;
  }

  it("download contains the files of an SDXL folder in the layout of the standard cache", async () => {
    const server = await hub();
    const cache = newCache();
    const progress: DownloadProgress[] = [];
    const folder = await fetchFrom(server, cache, { onProgress: (event) => progress.push(event) });
    assert.equal(folder, join(cache, "models--acme--tiny-xl/snapshots", hubCommit));
    assert.equal(await readFile(join(cache, "models--acme--tiny-xl/refs/main"), "utf8"), hubCommit);

    const entries = await readdir(folder, { recursive: true });
    const links = (
      await Promise.all(entries.map(async (path) => ((await lstat(join(folder, path))).isSymbolicLink() ? [path] : [])))
    ).flat();
    const wanted = (await readdir(repository, { recursive: true })).filter(
      (path) => /\.(?:json|txt|onnx|onnx_data)$/.test(path) && path !== "tokenizer/tokenizer.json",
    );
    assert.deepEqual(links.sort(), wanted.sort());
    for (const path of links) {
      assert.deepEqual(await readFile(join(folder, path)), await repositoryFile(path), path);
    }
    assert.match(await readlink(join(folder, weights)), /^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/);
    assert.match(await readlink(join(folder, "model_index.json")), /^\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/);
    assert.ok((await blobsOf(cache)).every((name) => /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(name)));

    const last = progress.at(-1);
    const sizes = await Promise.all(wanted.map(async (path) => (await repositoryFile(path)).length));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    assert.deepEqual([last?.doneBytes, last?.totalBytes], [total, total]);
    assert.ok(progress.every(({ totalBytes }) => totalBytes === total));
  });

  it("cached model needs no network, by revision or commit", async () => {
    const server = await hub();
    const cache = newCache();
    const folder = await fetchFrom(server, cache);
    await server.close();
    for (const revision of ["main", hubCommit]) {
      for (const offline of [false, true]) {
        assert.equal(await fetchFrom(server, cache, { model: { ...model, revision }, offline }), folder);
      }
    }
  });

  it("snapshot without its weights is completed from the Hub, reusing cached files", async () => {
    const server = await hub();
    const cache = newCache();
    const folder = await fetchFrom(server, cache);
    for (const file of [weights, "unet/config.json"]) {
      const blob = await readlink(join(folder, file));
      await rm(join(folder, file, "..", blob));
      const offline = await failure(fetchFrom(server, cache, { offline: true }));
      assert.equal(offline.kind, "offline");
      assert.match(offline.message, new RegExp(`${file} missing in .*HF_HUB_OFFLINE`));
      const known = server.requests.length;
      await fetchFrom(server, cache);
      const fetched = server.requests.slice(known).filter(({ path }) => path.includes("/resolve/"));
      assert.deepEqual(
        fetched.map(({ path }) => path.split(`${hubCommit}/`)[1]),
        [file],
      );
      assert.deepEqual(await readFile(join(folder, file)), await repositoryFile(file));
    }
  });

  it("offline download of a model that is not cached is rejected", async () => {
    const server = await hub();
    const error = await failure(fetchFrom(server, newCache(), { offline: true }));
    assert.equal(error.kind, "offline");
    assert.match(error.message, /it is not in \S+cache-\d+, and HF_HUB_OFFLINE is set; unset it once/);
    assert.equal(server.requests.length, 0);
  });

  /** Sends the first half of each answer about the weights, and cuts the connection; `times` times. */
  function cut(times: number): NonNullable<HubServerOptions["intercept"]> {
    let left = times;
    return ({ host, range }, response, body) => {
      if (host !== "storage" || body === undefined || left === 0) {
        return false;
      }
      left--;
      const start = Number(/\d+/.exec(range ?? "")?.[0] ?? 0);
      const half = body.subarray(start, start + Math.floor((body.length - start) / 2));
      response.writeHead(range === undefined ? 200 : 206, { "content-length": body.length - start });
      response.write(half, () => response.destroy());
      return true;
    };
  }

  const rangesOf = (requests: readonly HubRequest[]): string[] =>
    requests.flatMap(({ host, range }) => (host === "storage" && range !== undefined ? [range] : []));

  it("download resumes after a broken connection", async () => {
    const server = await hub({ intercept: cut(4) });
    const folder = await fetchFrom(server, newCache());
    assert.deepEqual(await readFile(join(folder, weights)), await repositoryFile(weights));
    assert.equal(rangesOf(server.requests).length, 4);
    assert.ok(rangesOf(server.requests).every((range) => /^bytes=[1-9]\d*-\d+$/.test(range)));
  });

  it("download resumes after an interrupted run, and an incomplete snapshot is not visible", async () => {
    const rejecting: { intercept: HubServerOptions["intercept"]; cuts: number } = { intercept: cut(1), cuts: 0 };
    const server = await hub({
      intercept(request, response, body) {
        if (request.host === "storage" && request.range !== undefined && rejecting.cuts++ < 3) {
          response.writeHead(503).end();
          return true;
        }
        return rejecting.intercept?.(request, response, body) ?? false;
      },
    });
    const cache = newCache();
    const error = await failure(fetchFrom(server, cache));
    assert.equal(error.kind, "unreachable");
    assert.match(error.message, /^model acme\/tiny-xl: \w+\/\S+: http\S+ answers with status 503; try again later$/);
    assert.doesNotMatch(error.message, /secret/);
    const parts = (await blobsOf(cache)).filter((name) => name.endsWith(".part"));
    assert.equal(parts.length, 1);
    assert.ok(!(await blobsOf(cache)).includes(parts[0]?.split(".")[0] ?? ""));

    const folder = await fetchFrom(server, cache);
    assert.deepEqual(await readFile(join(folder, weights)), await repositoryFile(weights));
    assert.equal(new Set(rangesOf(server.requests)).size, 1, "the same rest was asked for each time");
    assert.ok((await blobsOf(cache)).every((name) => !name.endsWith(".part")));
  });

  it("download restarts a file when the host does not support ranges", async () => {
    const half = cut(1);
    const server = await hub({
      intercept(request, response, body) {
        if (half(request, response, body)) {
          return true;
        }
        if (request.host === "storage" && request.range !== undefined && body !== undefined) {
          response.end(body);
          return true;
        }
        return false;
      },
    });
    const folder = await fetchFrom(server, newCache());
    assert.deepEqual(await readFile(join(folder, weights)), await repositoryFile(weights));
  });

  for (const [file, host] of [
    [weights, "storage"],
    ["unet/config.json", "hub"],
  ] as const) {
    it(`download with a changed byte in ${file} is rejected and its bytes are deleted`, async () => {
      const spoilt = await repositoryFile(file);
      const server = await hub({
        intercept(request, response, body) {
          if (request.host !== host || !body?.equals(spoilt)) {
            return false;
          }
          const other = Buffer.from(body);
          other[100] = (other[100] ?? 0) ^ 1;
          response.end(other);
          return true;
        },
      });
      const cache = newCache();
      const error = await failure(fetchFrom(server, cache));
      assert.equal(error.kind, "corrupt");
      assert.match(
        error.message,
        new RegExp(`^model acme/tiny-xl: ${file}: its bytes do not have the hash [0-9a-f]+; `),
      );
      assert.ok((await blobsOf(cache)).every((name) => !name.endsWith(".part")));
      assert.equal((await failure(fetchFrom(server, cache, { offline: true }))).kind, "offline");
    });
  }

  it("token is sent to the Hub only, whatever the storage host answers", async () => {
    const token = "hf_very_secret";
    const server = await hub({ token });
    const progress: string[] = [];
    await fetchFrom(server, newCache(), { token, onProgress: (event) => progress.push(JSON.stringify(event)) });
    const [toHub, toStorage] = (["hub", "storage"] as const).map((host) =>
      server.requests.filter((request) => request.host === host),
    );
    assert.ok(toHub?.every(({ authorization }) => authorization === `Bearer ${token}`));
    assert.ok((toStorage?.length ?? 0) >= 4);
    assert.ok(toStorage?.every(({ authorization }) => authorization === undefined));
    assert.doesNotMatch(progress.join(), /secret/);
  });

  it("token is not sent to another host named by a listing page", async () => {
    const token = "hf_very_secret";
    const other = await hub();
    const server = await hub({
      token,
      intercept({ path }, response) {
        if (!path.includes("/tree/")) {
          return false;
        }
        response.setHeader("link", `<${other.url}${path}?recursive=true>; rel="next"`);
        response.end("[]");
        return true;
      },
    });
    await fetchFrom(server, newCache(), { token });
    const shown = other.requests.map(({ authorization }) => authorization);
    assert.deepEqual(shown, [undefined, undefined], "two pages, and no token");
  });

  const answers: readonly [
    what: string,
    status: number,
    code: string,
    token: string | undefined,
    kind: string,
    RegExp,
  ][] = [
    [
      "hidden",
      401,
      "RepoNotFound",
      undefined,
      "not-found",
      /has no such model; check the id; if it is private, set HF_TOKEN or run/,
    ],
    ["absent", 404, "RepoNotFound", "hf_mine", "not-found", /has no such model; check the id and HF_TOKEN$/],
    [
      "gated",
      401,
      "GatedRepo",
      undefined,
      "forbidden",
      /it is gated; ask for access at http\S+\/acme\/tiny-xl, and set/,
    ],
    ["gated for others", 403, "GatedRepo", "hf_mine", "forbidden", /it is gated; ask for access/],
    [
      "rejected for an invalid token",
      401,
      "",
      "hf_mine",
      "forbidden",
      /rejects it \(status 401\); set HF_TOKEN to a token/,
    ],
    ["busy", 429, "", undefined, "unreachable", /answers with status 429; try again later/],
  ];
  for (const [what, status, code, token, kind, message] of answers) {
    it(`model that is ${what} is rejected with the remedy`, async () => {
      const server = await hub({
        intercept(_, response) {
          response.writeHead(status, { "x-error-code": code, "content-type": "application/json" });
          response.end('{"error": "words of the server"}');
          return true;
        },
      });
      const error = await failure(fetchFrom(server, newCache(), { token }));
      assert.equal(error.kind, kind);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /hf_mine/);
    });
  }

  it("model with gated files only names the file", async () => {
    const server = await hub({
      intercept({ path }, response) {
        const gated = path.includes("/resolve/");
        if (gated) {
          response.writeHead(403, { "x-error-code": "GatedRepo" }).end();
        }
        return gated;
      },
    });
    const { message } = await failure(fetchFrom(server, newCache()));
    assert.match(message, /^model acme\/tiny-xl: throughline\.json: it is gated; ask for access at /);
  });

  it("unknown revision is rejected by name", async () => {
    const error = await failure(fetchFrom(await hub(), newCache(), { model: { ...model, revision: "v9" } }));
    assert.match(error.message, /it has no revision v9; leave @v9 out/);
  });

  it("unreachable or invalid Hub is reported", async () => {
    const server = await hub();
    await server.close();
    const away = await failure(fetchFrom(server, newCache()));
    assert.equal(away.kind, "unreachable");
    assert.match(
      away.message,
      /the connection to http:\S+ failed \(.*ECONNREFUSED.*\); check the network and HF_ENDPOINT/,
    );
    const other = await hub({ intercept: (_, response) => Boolean(response.end("<html>")) });
    assert.match((await failure(fetchFrom(other, newCache()))).message, /HF_ENDPOINT/);
  });

  it("model without an ONNX form is rejected before any download", async () => {
    const folder = join(home, "safetensors");
    await makeSdxlFolder(folder, { leaveOut: ["unet/model.onnx"] });
    await writeFile(join(folder, "unet/diffusion_pytorch_model.safetensors"), Buffer.alloc(50_000));
    const server = await hub({ folder });
    const error = await failure(fetchFrom(server, newCache()));
    assert.equal(error.kind, "unusable");
    assert.match(
      error.message,
      /the repository has no whole folder of an SDXL model; take a repository that has safetensors/,
    );
    assert.ok(server.requests.every(({ path }) => path.startsWith("/api/")));
  });

  it("model larger than the free disk space is rejected before any download", async () => {
    const server = await hub({ sizes: { "vae_decoder/model.onnx": 1e16, "unet/model.onnx": 1e16 } });
    const error = await failure(fetchFrom(server, newCache()));
    assert.equal(error.kind, "disk");
    assert.match(error.message, /it needs \d+\.\d GB, and \S+ has \d+\.\d GB free; free some space, or set HF_HOME/);
    assert.ok(server.requests.every(({ path }) => path.startsWith("/api/")));
  });

  it("full disk and read-only cache folder are reported", async () => {
    const server = await hub();
    const whole = newCache();
    const [, hash = ""] = /blobs\/(.*)$/.exec(await readlink(join(await fetchFrom(server, whole), weights))) ?? [];
    const full = newCache();
    const blobs = join(full, "models--acme--tiny-xl/blobs");
    await mkdir(blobs, { recursive: true });
    await symlink("/dev/full", join(blobs, `${hash}.left.part`));
    const error = await failure(fetchFrom(server, full));
    assert.equal(error.kind, "disk");
    assert.match(error.message, /the disk of \S+ is full; free some space/);

    const file = newCache();
    await writeFile(file, "");
    assert.match((await failure(fetchFrom(server, join(file, "below")))).message, /cannot be written .*; set HF_HOME/);
  });

  it("two concurrent downloads of a model fetch it once", async () => {
    const cache = newCache();
    let finish = () => {};
    let began = () => {};
    const begun = new Promise<void>((resolve) => {
      began = resolve;
    });
    let held = false;
    const server = await hub({
      intercept({ host }, response, body) {
        if (host !== "storage" || body === undefined || held) {
          return false;
        }
        held = true;
        finish = () => response.end(body.subarray(100));
        response.write(body.subarray(0, 100), began);
        return true;
      },
    });
    const first = fetchFrom(server, cache);
    await begun;
    const second = fetchFrom(server, cache);
    // The first holds its file for longer than one that was left behind is waited for, and is not disturbed.
    let touches = 0;
    for await (const { filename } of watch(join(cache, "models--acme--tiny-xl/blobs"))) {
      touches += filename?.endsWith(".part") ? 1 : 0;
      if (touches === 16) {
        break;
      }
    }
    finish();
    const [one, other] = await Promise.all([first, second]);
    assert.equal(one, other);
    assert.deepEqual(await readFile(join(one, weights)), await repositoryFile(weights));
    const stored = server.requests.filter(({ host }) => host === "storage").map(({ path }) => path);
    assert.equal(new Set(stored).size, stored.length, "nothing was fetched twice");
    assert.ok((await blobsOf(cache)).every((name) => !name.endsWith(".part")));
  });

  it("many downloads that start together fetch the model once, complete for each", async () => {
    const server = await hub();
    const cache = newCache();
    const fetched = await Promise.all(Array.from({ length: 5 }, () => fetchFrom(server, cache)));
    assert.equal(new Set(fetched).size, 1);
    for (const file of [weights, "unet/model.onnx", "tokenizer/vocab.json"]) {
      assert.deepEqual(await readFile(join(fetched[0] ?? "", file)), await repositoryFile(file));
    }
    const stored = server.requests.filter(({ host }) => host === "storage").map(({ path }) => path);
    assert.equal(new Set(stored).size, stored.length, "nothing was fetched twice");
  });

  for (const name of [
    "../../../../unet/model.onnx_data",
    "unet/model.onnx_data/../../../x",
    "/tmp/x",
    "unet//x",
    "a\\b",
    "a\0b",
  ]) {
    it(`listing with the name ${JSON.stringify(name)} is rejected before any download`, async () => {
      const server = await hub({ names: { [weights]: name } });
      const cache = newCache();
      const error = await failure(fetchFrom(server, cache));
      assert.equal(error.kind, "unusable");
      assert.match(error.message, /it lists a file whose name leads elsewhere, "/);
      assert.ok(server.requests.every(({ path }) => path.startsWith("/api/")));
      await assert.rejects(readdir(cache), { code: "ENOENT" });
    });
  }

  it("cache writes no file outside its snapshot", async () => {
    const cache = newCache();
    const outside = createModelCache(cache, model.name).link(hubCommit, "../../../../escaped", "f".repeat(40));
    await assert.rejects(outside, /would lie outside its folder/);
    await assert.rejects(lstat(join(home, "escaped")), { code: "ENOENT" });
  });

  it("file longer than listed is aborted at that length and its connection closed", async () => {
    const sent = (await repositoryFile(weights)).length;
    let ended: Promise<unknown> | undefined;
    const server = await hub({
      intercept({ host }, response, body) {
        if (host !== "storage" || body?.length !== sent) {
          return false;
        }
        ended = once(response, "close");
        const go = (): void => {
          while (!response.destroyed && response.write(body)) {}
        };
        response.on("drain", go).on("error", () => {});
        go();
        return true;
      },
    });
    const cache = newCache();
    const progress: DownloadProgress[] = [];
    const error = await failure(fetchFrom(server, cache, { onProgress: (event) => progress.push(event) }));
    assert.equal(error.kind, "corrupt");
    assert.match(error.message, new RegExp(`${weights}: the host sends more than the ${sent} bytes that are listed`));
    assert.ok(progress.every(({ doneBytes, totalBytes }) => doneBytes <= totalBytes));
    await ended;
    for (const name of await blobsOf(cache)) {
      assert.ok((await lstat(join(cache, "models--acme--tiny-xl/blobs", name))).size <= Math.max(sent, 100_000));
    }
  });

  const endless: readonly [what: string, page: (path: string) => readonly [next: boolean, body: string], RegExp][] = [
    ["pages", () => [true, "[]"], /its listing has more than 100 pages/],
    ["bytes", () => [false, `[${" ".repeat(9 * 2 ** 20)}]`], /an answer about it is larger than 8388608 bytes/],
    [
      "files",
      () => [true, JSON.stringify(Array.from({ length: 5000 }, () => ({ type: "directory", path: "a", size: 0 })))],
      /it has more than 20000 files/,
    ],
  ];
  for (const [what, page, message] of endless) {
    it(`listing with endless ${what} is rejected`, async () => {
      const server = await hub({
        intercept({ path }, response) {
          if (!path.includes("/tree/")) {
            return false;
          }
          const [next, body] = page(path);
          if (next) {
            response.setHeader("link", `<http://${response.req.headers.host}${path}?again>; rel="next"`);
          }
          response.end(body);
          return true;
        },
      });
      const error = await failure(fetchFrom(server, newCache()));
      assert.equal(error.kind, "unusable");
      assert.match(error.message, message);
    });
  }

  it("download is aborted with the signal's reason", async () => {
    const controller = new AbortController();
    const reason = new Error("interrupted");
    const server = await hub({
      intercept({ host }, response, body) {
        if (host === "storage") {
          response.write(body?.subarray(0, 100), () => controller.abort(reason));
        }
        return host === "storage";
      },
    });
    await assert.rejects(fetchFrom(server, newCache(), { signal: controller.signal }), reason);
  });
});
