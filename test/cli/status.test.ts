import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { suite, test } from "node:test";
import { renderStatus } from "../../src/cli/commands/status.js";
import { packageVersion } from "../../src/cli/package-root.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

const readyAt = /ready at (http\S+)/;

suite("throughline status", async () => {
  const folder = await temporaryFolder();
  const worker = {
    address: "10.0.0.1:50052",
    health: "serving",
    inFlight: 2,
    others: 1,
    serviceMs: 1500,
    expectedWaitMs: 3000,
    rejectsForMs: 0,
    ejected: false,
    version: "0.1.0",
  } as const;

  test("one screen has the pipeline, jobs, spans, replicas and versions", () => {
    const down = { ...worker, address: "10.0.0.2:50052", health: "down", inFlight: 0, version: undefined } as const;
    const apps = [
      {
        appId: "acme/one",
        target: "dns:///one:50052",
        isDefault: true,
        workers: [worker, { ...worker, version: "0.0.9" }],
      },
      { appId: "acme/two", target: "dns:///two:50052", isDefault: false, workers: [down] },
    ];
    const pipeline = {
      version: "0.1.0\u001b[2J",
      spans: { exported: 12_345, waiting: 6, lost: 7 },
      jobs: { waiting: 3, running: 1, oldestSeconds: 61, deadWebhooks: 2 },
    };
    const [head = "", table = ""] = renderStatus("http://p.example", { pipeline, apps }, new Map()).split("\n\n");
    assert.deepEqual(head.split("\n"), [
      "pipeline  http://p.example, version 0.1.0\ufffd[2J",
      "jobs      3 waiting, the oldest for 1 min 1 s, 1 running, 2 dead webhooks (`throughline jobs redrive` sends them again)",
      "spans     12,345 exported, 6 waiting, 7 lost",
      "replicas  2 of 3 serve 4 calls of this pipeline; no replica of acme/two",
      "versions  workers: 0.0.9 (1), 0.1.0 (1), unknown (1)",
    ]);
    assert.match(table, /^APP .* HEALTH .* WAIT.*\n/);
    assert.match(table, /acme\/one \(default\) .*10\.0\.0\.1:50052 +serving +2 +1 +1\.5 s +3\.0 s/);
  });

  test("a running pipeline shows its status to a caller with a key, and its errors to others", async (t) => {
    const [key, other] = [createCallerKey(), createCallerKey()];
    const file = async (name: string, text: string) => {
      await writeFile(join(folder, name), text);
      return join(folder, name);
    };
    const callers = await file(
      "callers.yaml",
      JSON.stringify({ callers: [{ name: "operator", keys: [hashCallerKey(key)], apps: ["acme/*"] }] }),
    );
    const args = ["--port", "0", "--worker", "acme/worker=127.0.0.1:1", "--callers", callers];
    const shown = startCommand(t, ["pipeline", ...args, "--show-apps", "--jobs", join(folder, "jobs")]);
    const hidden = startCommand(t, ["pipeline", ...args]);
    const [, url = ""] = await shown.waitFor(readyAt);
    const [, hiddenUrl = ""] = await hidden.waitFor(readyAt);
    const keyFile = await file("key.txt", key);
    const status = (...more: readonly string[]) => runInProcess(["status", "--server", url, ...more]);

    const { code, stdout } = await status("--key-file", keyFile, "--json");
    assert.equal(code, 0);
    const { pipeline, apps } = JSON.parse(stdout);
    const jobs = { waiting: 0, running: 0, oldestSeconds: 0, deadWebhooks: 0 };
    assert.deepEqual(pipeline, { url, version: packageVersion(), spans: null, jobs });
    assert.deepEqual(
      apps.map(({ appId, model, workers }: { appId: string; model: unknown; workers: { address: string }[] }) => [
        appId,
        model,
        workers.map(({ address }) => address),
      ]),
      [["acme/worker", null, ["127.0.0.1:1"]]],
    );
    assert.match(
      (await status("--key-file", keyFile)).stdout,
      /^jobs {6}0 waiting, 0 running\nspans {5}not exported\n/m,
    );

    const withoutKey = await status();
    assert.equal(withoutKey.code, 1);
    assert.match(withoutKey.message, /^cannot read the status of \S+: it answered 401: authentication is required/);
    const wrongKey = await status("--key-file", await file("other.txt", other));
    assert.deepEqual([wrongKey.code, wrongKey.message.includes(other)], [1, false]);
    const notShown = await runInProcess(["status", "--server", hiddenUrl, "--key-file", keyFile]);
    assert.equal(notShown.code, 1);
    assert.match(notShown.message, /start it with --show-apps/);
    const away = await runInProcess(["status", "--server", "http://127.0.0.1:1"]);
    assert.equal(away.code, 1);
    assert.match(away.message, /^cannot read the status of http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/);
  });

  test("an answer without an end is not read into memory", async (t) => {
    const block = Buffer.alloc(1_048_576, "[");
    const server = createServer((_request, response) => {
      const more = () => {
        while (response.write(block)) {
          // Until the connection takes no more.
        }
        response.once("drain", more);
      };
      more();
    });
    const { url } = await listenOnLoopback(t, server);
    const { code, message } = await runInProcess(["status", "--server", url]);
    assert.equal(code, 1);
    assert.match(message, /^cannot read the status of \S+: its answer is larger than the limit of 33554432 bytes$/);
  });
});
