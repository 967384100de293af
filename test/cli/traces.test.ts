import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { listen } from "../../src/mesh/port/listen.js";
import { respondPlain } from "../../src/mesh/port/node-handler.js";
import { makeSpan } from "../support/make-span.js";
import { runInProcess } from "./support/run-in-process.js";
import { startCollector } from "./support/start-collector.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const otherId = "1af7651916cd43dd8448eb211c80319c";
const root = makeSpan({ traceId, name: "root", kind: "SERVER", endMs: 10, attributes: { "a.list": ["x", "y"] } });
const below = makeSpan({
  traceId,
  name: "below",
  service: "worker",
  parentSpanId: root.spanId,
  startMs: 5,
  endMs: 10,
  status: { code: "ERROR", message: "INTERNAL" },
  events: [{ name: "denoising", timeUnixNano: root.startUnixNano + 7_000_000n, attributes: { step: 1 } }],
});
const spans = [root, below];
const nowhere = "http://127.0.0.1:1";

suite("throughline trace", () => {
  test("trace prints a tree for an id in any case", async (t) => {
    const { url } = await startCollector(t, spans);
    const { code, stdout, stderr } = await runInProcess(["trace", traceId.toUpperCase(), "--collector", url]);
    assert.equal(code, 0);
    assert.equal(stderr, "");
    assert.equal(
      stdout,
      `root       image-pipeline   10.0 ms  ${"█".repeat(30)}
└── below  worker           5.00 ms  ${" ".repeat(15)}${"█".repeat(15)}
        ERROR INTERNAL
`,
    );
  });

  test("trace -v prints attributes and events", async (t) => {
    const { url } = await startCollector(t, spans);
    for (const flag of ["-v", "--verbose"]) {
      const { stdout } = await runInProcess(["trace", traceId, flag], { environment: { THROUGHLINE_COLLECTOR: url } });
      assert.match(
        stdout,
        /^root .*\n│ {3}a\.list=\["x","y"\]\n└── below .*\n.*ERROR INTERNAL\n {8}\+2\.00 ms {2}denoising {2}step=1\n$/,
      );
    }
  });

  test("trace --json prints the spans as JSON", async (t) => {
    const { url } = await startCollector(t, spans);
    const { stdout } = await runInProcess(["trace", traceId, "--collector", url, "--json"]);
    const { traceId: printedId, spans: shown } = JSON.parse(stdout);
    assert.equal(printedId, traceId);
    assert.deepEqual(shown, [
      {
        name: "root",
        service: "image-pipeline",
        kind: "SERVER",
        spanId: root.spanId,
        parentSpanId: "",
        durationMs: 10,
        attributes: { "a.list": ["x", "y"] },
      },
      {
        name: "below",
        service: "worker",
        kind: "INTERNAL",
        spanId: below.spanId,
        parentSpanId: root.spanId,
        durationMs: 5,
        attributes: {},
      },
    ]);
  });

  test("trace fits the terminal and removes control characters from span names", async (t) => {
    const rogue = {
      ...below,
      name: "\u001b[2J\u001b]0;owned\u0007",
      service: "\u009b31m\u202eevil",
      status: { code: "ERROR", message: "\u001bc" } as const,
      attributes: { "\u001b[1A": "\u001b[1A" },
      events: [{ name: "\u001b[A", timeUnixNano: 0n, attributes: { "\r": "\r" } }],
    };
    const { url } = await startCollector(t, [root, rogue]);
    const run = { isTTY: true, columns: 60 };
    const { stdout } = await runInProcess(["trace", traceId, "-v", "--collector", url], run);
    assert.match(stdout, /\ufffd\[2J\ufffd\]0;owned\ufffd/);
    const { stdout: colorless } = await runInProcess(["trace", traceId, "-v", "--collector", url], {
      ...run,
      environment: { NO_COLOR: "1" },
    });
    assert.doesNotMatch(colorless.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
    assert.ok(colorless.split("\n").every(({ length }) => length < 60));
    assert.notEqual(stdout, colorless);
    assert.equal(stripVTControlCharacters(stdout), colorless);
  });

  test("trace of an unknown id exits with 1 and says that the collector has none", async (t) => {
    const { url } = await startCollector(t, spans);
    const { code, stdout, message } = await runInProcess(["trace", otherId, "--collector", url]);
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(message, new RegExp(`^${url} has no trace ${otherId} \\(.*throughline traces lists them`));
  });

  test("trace rejects an invalid trace id with 2", async () => {
    for (const id of ["x", traceId.slice(1), `${traceId}0`, "\u001b[2J"]) {
      const { code, message } = await runInProcess(["trace", id, "--collector", nowhere]);
      assert.equal(code, 2);
      assert.equal(message, `a trace id is 32 hexadecimal digits, got "${id.replace("\u001b", "\ufffd")}"`);
    }
    assert.equal((await runInProcess(["trace"])).code, 2);
    assert.equal((await runInProcess(["trace", traceId, otherId])).code, 2);
  });
});

suite("throughline traces", () => {
  test("traces lists the newest traces first", async (t) => {
    const minutes = 3 * 60_000;
    const now = BigInt(Date.now() - minutes) * 1_000_000n;
    const running = { ...root, traceId: otherId, name: "\u001b[2Jother", startUnixNano: now, endUnixNano: now + 1n };
    const { url } = await startCollector(t, [...spans, running]);
    const { code, stdout } = await runInProcess(["traces", "--collector", url]);
    assert.equal(code, 0);
    const [head, first, second, ...others] = stdout.trimEnd().split("\n");
    assert.deepEqual(others, []);
    assert.match(head ?? "", /^TRACE {29}AGE +DURATION +SPANS +ERRORS +FIRST SPAN$/);
    assert.match(
      first ?? "",
      new RegExp(`^${otherId}  3 min \\d+ s +0\\.00 ms +1 +0 +\ufffd\\[2Jother \\(image-pipeline\\)$`),
    );
    assert.match(
      second ?? "",
      new RegExp(`^${traceId}  \\d+ d( \\d+ h)? +10\\.0 ms +2 +1 +root \\(image-pipeline\\)$`),
    );
  });

  test("traces --json lists as many as requested", async (t) => {
    const { url } = await startCollector(t, [{ ...root, traceId: otherId }, ...spans]);
    const { stdout } = await runInProcess(["traces", "--collector", url, "--json", "--limit", "1"]);
    assert.deepEqual(JSON.parse(stdout), {
      traces: [
        {
          traceId,
          name: "root",
          service: "image-pipeline",
          startedAt: new Date(Number(root.startUnixNano / 1_000_000n)).toISOString(),
          durationMs: 10,
          spanCount: 2,
          errorCount: 1,
          running: false,
        },
      ],
    });
  });

  test("traces says that there are none yet", async (t) => {
    const { url } = await startCollector(t);
    assert.equal((await runInProcess(["traces", "--collector", url])).stdout, "no traces yet\n");
    assert.equal((await runInProcess(["traces", "--collector", url, "--json"])).stdout, '{"traces":[]}\n');
  });

  test("trace and traces explain what to do when no collector answers", async (t) => {
    const other = await listen({ port: 0, handler: (_, response) => respondPlain(response, 404, "nothing here") });
    t.after(() => other.stop({ graceMs: 0 }));
    for (const args of [["traces"], ["trace", traceId]]) {
      const away = await runInProcess([...args, "--collector", nowhere]);
      assert.equal(away.code, 1);
      assert.match(
        away.message,
        /^cannot reach http:\/\/127\.0\.0\.1:1: UNAVAILABLE: .*ECONNREFUSED.* \(`throughline dev` and `throughline collector` start one; --collector names its URL\)/,
      );
      const foreign = await runInProcess([...args, "--collector", other.url]);
      assert.equal(foreign.code, 1);
      assert.match(
        foreign.message,
        /answered UNIMPLEMENTED: .* \(that is not a collector: --collector names its URL\)$/,
      );
    }
  });
});
