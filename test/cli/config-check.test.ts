import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, writeCertificate } from "../support/certificates.js";
import { compiledProgram } from "./support/compiled-program.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const guard = pathToFileURL(join(root, "test/fixtures/no-network.mjs")).href;

interface Found {
  readonly setting: string;
  readonly problem: string;
  readonly remedy: string;
}

/** How a check ended. */
interface Checked {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `config check` in a process that ends when it uses the network. */
function check(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  cwd?: string,
): Promise<Checked> {
  return new Promise((resolve) => {
    const { PATH = "", HOME = "" } = process.env;
    const argv = ["--import", guard, compiledProgram, "config", "check", ...args];
    execFile(process.execPath, argv, { cwd, env: { PATH, HOME, ...environment } }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
    });
  });
}

/** The problems of the only role. */
async function problemsOf(args: readonly string[], environment = {}): Promise<readonly Found[]> {
  const { code, stdout, stderr } = await check([...args, "--json"], environment);
  assert.equal(stderr, "");
  const { ok, roles } = JSON.parse(stdout);
  assert.deepEqual([ok, code], roles[0].problems.length === 0 ? [true, 0] : [false, 1]);
  return roles[0].problems;
}

/** Every file below a folder, with its content. */
async function contentOf(folder: string): Promise<Record<string, string>> {
  const content: Record<string, string> = {};
  for (const name of (await readdir(folder, { recursive: true })).sort()) {
    const path = join(folder, name);
    const { mtimeMs } = await stat(path);
    const hash = await readFile(path).then(
      (bytes) => createHash("sha256").update(bytes).digest("hex"),
      () => "folder",
    );
    content[name] = `${mtimeMs} ${hash}`;
  }
  return content;
}

suite("config check", async () => {
  const folder = await temporaryFolder();
  const file = (name: string) => join(folder, name);
  const secret = "CANARY-SECRET";
  let valid: readonly string[];
  before(async () => {
    const authority = await createAuthority();
    const server = await writeCertificate(folder, "server", await authority.issue({}));
    await writeCertificate(folder, "other", await authority.issue({}));
    await writeCertificate(folder, "old", await authority.issue({ fromHours: -2, untilHours: -1 }));
    await writeFile(file("ca.crt"), authority.cert);
    const callers = [{ name: "shop", keys: [hashCallerKey(createCallerKey())], apps: ["*"] }];
    await writeFile(file("callers.yaml"), JSON.stringify({ callers }));
    await writeFile(file("jobs.key"), `${randomBytes(32).toString("base64")}\n`);
    await writeFile(file("webhook.key"), `whsec_${randomBytes(32).toString("base64")}\n`);
    await writeFile(file("worker.key.txt"), `${createCallerKey()}\n`);
    await writeFile(
      file("apps.yaml"),
      JSON.stringify({ apps: { "acme/worker": { target: "workers.example:50052" } } }),
    );
    await mkdir(file("images"));
    valid = [
      ...["--host", "0.0.0.0", "--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", file("ca.crt")],
      ...["--callers", file("callers.yaml"), "--apps", file("apps.yaml"), "--metrics-port", "9465"],
      ...["--worker-tls-ca", file("ca.crt"), "--worker-key-file", file("worker.key.txt")],
      ...["--jobs", "postgres://user:pw@db.example/throughline", "--jobs-key-file", file("jobs.key")],
      ...["--webhook-hosts", "hooks.example.com", "--webhook-secret-file", file("webhook.key")],
      ...["--studio", "--studio-collector", "http://collector.example:4317", "--fal", "--openai"],
    ];
  });

  test("valid settings of each command are ok, use no network and change no file", async () => {
    const content = await contentOf(folder);
    const otel = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "https://collector.example:4317",
      OTEL_EXPORTER_OTLP_CERTIFICATE: file("ca.crt"),
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=${secret}`,
    };
    const s3 = ["--image-store", "s3://images/prefix", "--s3-endpoint", "https://s3.example", "--s3-force-path-style"];
    const cases = [
      ["pipeline", ...valid, "--images", file("images")],
      ["pipeline", ...valid, ...s3],
      ["pipeline", "--jobs", file("new/jobs")],
      ["worker", "--images", file("new/images"), "--metrics-port", "0"],
      ["dev", "--jobs", file("new/dev")],
      ["collector"],
      [],
    ];
    const ends = await Promise.all(cases.map(async (args) => ({ args, ...(await check(args, otel, folder)) })));
    for (const { args, code, stdout, stderr } of ends) {
      assert.deepEqual([code, stderr], [0, ""], `${args.join(" ")}: ${stdout}`);
      assert.match(stdout, /^(?:pipeline|worker|dev|collector): no problem\n/);
      assert.ok(!stdout.includes(secret));
    }
    assert.deepEqual(await contentOf(folder), content);
  });

  test("the guard of these tests sees a service that opens its port", async () => {
    const argv = ["--import", guard, compiledProgram, "collector", "--port", "0"];
    const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
      execFile(process.execPath, argv, (error, _stdout, text) => resolve({ code: error?.code, stderr: text }));
    });
    assert.equal(code, 99);
    assert.match(stderr, /forbidden: (?:lookup|listen)/);
  });

  test("all problems are reported in one go, each with setting, problem and remedy", async () => {
    await writeFile(file("bad-callers.yaml"), JSON.stringify({ callers: [{ name: "a b", keys: [secret], apps: [] }] }));
    await writeFile(file("bad.key"), `${secret}\n`);
    const problems = await problemsOf(
      [
        ...["pipeline", "--port", "70000", "--host", "0.0.0.0", "--prot", "1", "--s3-force-path-style"],
        ...["--tls-cert", file("server.crt"), "--tls-key", file("other.key"), "--callers", file("bad-callers.yaml")],
        ...["--worker-tls-ca", file("none.crt"), "--worker-key-file", file("none.txt")],
        ...["--apps", file("none.yaml"), "--default-app", "acme/worker"],
        ...["--jobs", `postgres://user:${secret}@db.example/x`, "--jobs-key-file", file("bad.key")],
        ...["--webhook-hosts", "127.0.0.1", "--webhook-secret-file", file("bad.key"), "--fal-run-host", "fal.example"],
        ...["--studio-collector", `http://user:${secret}@collector`, "--url-ttl", "0"],
      ],
      {
        THROUGHLINE_PIPELINE_PROT: "1",
        THROUGHLINE_WORKERS: "nonsense",
        OTEL_EXPORTER_OTLP_ENDPONT: "http://x",
        OTEL_EXPORTER_OTLP_ENDPOINT: `ftp://user:${secret}@x`,
        OTEL_EXPORTER_OTLP_HEADERS: secret,
        OTEL_BSP_SCHEDULE_DELAY: "soon",
        ENABLE_TRACING: "perhaps",
      },
    );
    for (const { setting, problem, remedy } of problems) {
      assert.ok(setting !== "" && problem !== "" && remedy !== "", setting);
      assert.ok(!`${setting}${problem}${remedy}`.includes(secret), problem);
    }
    const expected: readonly (readonly [setting: string, problem: RegExp])[] = [
      ["--port", /whole number from 0 to 65535, got "70000"/],
      ["--url-ttl", /whole number from 1 to 604800/],
      ["THROUGHLINE_WORKERS (--worker)", /owner\/name=host:port/],
      ["--prot", /is no flag/],
      ["THROUGHLINE_PIPELINE_PROT", /has no effect/],
      ["OTEL_EXPORTER_OTLP_ENDPONT", /has no effect/],
      ["ENABLE_TRACING", /must be true or false/],
      ["OTEL_EXPORTER_OTLP_ENDPOINT", /must be a URL/],
      ["OTEL_EXPORTER_OTLP_HEADERS", /pair 1 is not one/],
      ["OTEL_BSP_SCHEDULE_DELAY", /is ignored: it must be a whole number/],
      ["--tls-cert, --tls-key", /does not belong to the certificate/],
      ["--callers", /callers\.0\.name must be .*callers\.0\.keys\.0 must be .*callers\.0\.apps must name/],
      ["--apps", /excludes --worker and --default-app/],
      ["--fal-run-host", /needs --fal/],
      ["--studio-collector and --trace-url", /need --studio/],
      ["--worker-tls-ca", /none\.crt cannot be read/],
      ["--worker-key-file", /none\.txt cannot be read/],
      ["--s3-endpoint, --s3-public-endpoint and --s3-force-path-style", /need --image-store/],
      ["--jobs", /needs a place for the jobs' images/],
      ["--webhook-hosts", /public addresses only/],
      ["--jobs-key-file", /one key a line/],
      ["--webhook-secret-file", /24 bytes or more/],
    ];
    for (const [setting, problem] of expected) {
      const found = problems.filter((each) => each.setting === setting);
      assert.ok(
        found.some((each) => problem.test(each.problem)),
        `${setting} ${problem}: ${JSON.stringify(found)}`,
      );
    }
    assert.equal(problems.length, expected.length, JSON.stringify(problems, null, 1));
    assert.equal(problems.find(({ setting }) => setting === "--prot")?.remedy, "did you mean --port?");
    const typo = problems.find(({ setting }) => setting === "OTEL_EXPORTER_OTLP_ENDPONT");
    assert.equal(typo?.remedy, "did you mean OTEL_EXPORTER_OTLP_ENDPOINT?");
  });

  test("an expired certificate, an open address and a port that is needed twice are problems", async () => {
    const tls = ["--tls-cert", file("old.crt"), "--tls-key", file("old.key")];
    const problems = await problemsOf([
      "worker",
      "--host",
      "0.0.0.0",
      "--port",
      "9464",
      "--metrics-port",
      "9464",
      ...tls,
    ]);
    assert.deepEqual(
      problems.map(({ setting }) => setting),
      ["--metrics-port", "--tls-cert, --tls-key", "--host"],
    );
    assert.match(problems[1]?.problem ?? "", /expired on/);
    assert.match(problems[2]?.problem ?? "", /anonymous clients could call/);
  });

  test("a model that is missing is a problem, and one that is to be downloaded a warning", async () => {
    await writeFile(file("model_index.json"), "{}");
    const hub = { HF_HOME: file("hub") };
    const [[missing], [broken], [offline], [lora], download] = await Promise.all([
      problemsOf(["worker", "--model", file("no-model")]),
      problemsOf(["worker", "--model", folder]),
      problemsOf(["worker", "--model", "acme/model"], { ...hub, HF_HUB_OFFLINE: "1" }),
      problemsOf(["worker", "--lora", `pixel=${file("none.safetensors")}`]),
      check(["worker", "--model", "acme/model"], hub),
    ]);
    assert.deepEqual([missing?.setting, broken?.setting, offline?.setting], ["--model", "--model", "--model"]);
    assert.match(offline?.problem ?? "", /HF_HUB_OFFLINE is set/);
    assert.deepEqual([lora?.setting, lora?.problem], ["--lora", `pixel: ${file("none.safetensors")} cannot be read`]);
    assert.equal(download.code, 0, download.stdout);
    assert.match(
      download.stdout,
      /^worker: no problem\nwarning {2}--model acme\/model is not in the cache of the Hub\n {9}→ the start downloads it/,
    );
  });

  test("the ports of dev differ", async () => {
    const [problem] = await problemsOf(["dev", "--jobs", file("dev"), "--worker-port", "8080"]);
    assert.deepEqual([problem?.setting, problem?.problem], ["--worker-port", "is 8080, as --pipeline-port"]);
  });

  test("an unknown command is a usage error", async () => {
    const { code, stderr } = await check(["server"]);
    assert.equal(code, 2);
    assert.match(stderr, /config check takes pipeline, worker, dev, collector, .*got "server"/);
  });
});
