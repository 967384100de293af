import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { context, ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import { withSpan } from "../../src/trace/span-scope.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { testTelemetry } from "../support/telemetry.js";

test("span is active across awaits, is the parent of its child spans, and ends once", async (t) => {
  const { tracer, collector } = testTelemetry(t, "studio");
  const result = await withSpan(
    tracer,
    "outer",
    { parent: ROOT_CONTEXT, attributes: { a: 1 } },
    async (outer, scope) => {
      await Promise.resolve();
      assert.equal(trace.getSpan(context.active()), outer);
      assert.equal(trace.getSpan(scope), outer);
      return withSpan(tracer, "inner", { parent: scope, kind: SpanKind.CLIENT }, (inner) => {
        inner.setAttribute("b", "x");
        return 42;
      });
    },
  );
  assert.equal(result, 42);
  assert.equal(trace.getSpan(context.active()), undefined);
  assert.equal(
    dumpSpans(collector.spans()),
    text`
      outer INTERNAL studio
          a=1
        inner CLIENT studio
            b="x"
    `,
  );
});

test("span's parent is the given one and not the active one", async (t) => {
  const { tracer, collector } = testTelemetry(t, "studio");
  await withSpan(tracer, "active", { parent: ROOT_CONTEXT }, () =>
    withSpan(tracer, "root", { parent: ROOT_CONTEXT }, () => {}),
  );
  assert.equal(dumpSpans(collector.spans()), "active INTERNAL studio\nroot INTERNAL studio");
});

test("exception is recorded on the innermost span only, also when it is mapped on the way up", async (t) => {
  const { tracer, collector } = testTelemetry(t, "studio");
  const work = withSpan(tracer, "outer", { parent: ROOT_CONTEXT, kind: SpanKind.SERVER }, async (_outer, scope) => {
    try {
      await withSpan(tracer, "inner", { parent: scope }, () => {
        throw new ConnectError("the engine process died", Code.Unavailable);
      });
    } catch (cause) {
      throw new ConnectError("no worker", Code.Unavailable, undefined, undefined, cause);
    }
  });
  await assert.rejects(work, /no worker/);
  assert.equal(
    dumpSpans(collector.spans()),
    text`
      outer SERVER studio ERROR "UNAVAILABLE"
          rpc.response.status_code="UNAVAILABLE"
        inner INTERNAL studio ERROR "UNAVAILABLE"
            event exception exception.message="the engine process died" exception.type="ConnectError"
    `,
  );
});

const canary = "canary prompt";

for (const { what, error, event } of [
  { what: "an unexpected error", error: new TypeError(canary), event: 'exception.type="TypeError"' },
  { what: "a thrown string", error: canary, event: 'exception.type="string"' },
  {
    what: "a copy of an unexpected error's text",
    error: ConnectError.from(new SyntaxError(`Unexpected token in "${canary}"`), Code.Internal),
    event: 'exception.type="ConnectError"',
  },
  {
    what: "a copy of a thrown string",
    error: ConnectError.from(canary, Code.Internal),
    event: 'exception.type="ConnectError"',
  },
]) {
  test(`${what} is recorded without its text`, async (t) => {
    const { tracer, collector } = testTelemetry(t, "studio");
    const work = withSpan(tracer, "work", { parent: ROOT_CONTEXT }, () => {
      throw error;
    });
    await assert.rejects(work, (thrown) => thrown === error);
    const spans = collector.spans();
    assert.equal(dumpSpans(spans), `work INTERNAL studio ERROR "INTERNAL"\n    event exception ${event}`);
    const everything = JSON.stringify(spans, (_key, value: unknown) =>
      typeof value === "bigint" ? `${value}` : value,
    );
    assert.ok(!everything.includes(canary));
  });
}

test("INVALID_ARGUMENT is no error of the server, and its text is not recorded", async (t) => {
  const { tracer, collector } = testTelemetry(t, "studio");
  const work = withSpan(tracer, "work", { parent: ROOT_CONTEXT }, () => {
    throw new ConnectError(`prompt: ${canary}`, Code.InvalidArgument);
  });
  await assert.rejects(work);
  assert.equal(dumpSpans(collector.spans()), 'work INTERNAL studio\n    event exception exception.type="ConnectError"');
});
