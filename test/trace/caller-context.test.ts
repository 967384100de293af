import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { propagation, ROOT_CONTEXT, type TextMapPropagator, trace } from "@opentelemetry/api";
import { extractCarrier, injectCarrier, readCallerContext } from "../../src/trace/carrier.js";
import { traceIdOf, withSpan } from "../../src/trace/span-scope.js";
import { createPropagator, createSilentPropagator } from "../../src/trace/telemetry/spans.js";
import { testTelemetry } from "../support/telemetry.js";

const propagator = createPropagator();
const inHeader = { traceId: "a".repeat(32), spanId: "b".repeat(16) };
const inBody = { traceId: "c".repeat(32), spanId: "d".repeat(16) };
const traceparent = ({ traceId, spanId }: typeof inHeader) => `00-${traceId}-${spanId}-01`;
const header = new Headers({ traceparent: traceparent(inHeader), tracestate: "vendor=1", baggage: "tenant=t1" });

test("policy link: root span links to the caller, and tracestate and baggage are dropped", () => {
  const { parent, links } = readCallerContext({ propagator, header, policy: "link" });
  assert.equal(parent, ROOT_CONTEXT);
  assert.deepEqual(links, [{ context: { ...inHeader, traceFlags: 1, isRemote: true } }]);
});

test("policy link: no link without a valid header", () => {
  for (const value of ["", "garbage", `${traceparent(inHeader)}, ${traceparent(inHeader)}`]) {
    const headers = new Headers({ traceparent: value, baggage: "tenant=t1" });
    assert.deepEqual(readCallerContext({ propagator, header: headers, policy: "link" }), {
      parent: ROOT_CONTEXT,
      links: [],
    });
  }
});

test("policy trust: the caller is the parent, with tracestate and baggage", () => {
  const { parent, links } = readCallerContext({ propagator, header, policy: "trust" });
  assert.equal(traceIdOf(parent), inHeader.traceId);
  assert.equal(trace.getSpanContext(parent)?.traceState?.get("vendor"), "1");
  assert.equal(propagation.getBaggage(parent)?.getEntry("tenant")?.value, "t1");
  assert.deepEqual(links, []);
});

test("policy ignore: headers are not read", () => {
  assert.deepEqual(readCallerContext({ propagator, header, policy: "ignore" }), { parent: ROOT_CONTEXT, links: [] });
});

test("valid carrier in the body has priority over headers", () => {
  for (const policy of ["link", "trust", "ignore"] as const) {
    const { parent, links } = readCallerContext({
      propagator,
      header,
      policy,
      carrier: { TraceParent: traceparent(inBody), Tracestate: "body=1" },
    });
    assert.equal(traceIdOf(parent), inBody.traceId);
    assert.equal(trace.getSpanContext(parent)?.traceState?.serialize(), "body=1");
    assert.deepEqual(links, []);
  }
});

test("without a valid parent in the carrier, headers count by the policy", () => {
  const carrier = { traceparent: "garbage", baggage: "from=body" };
  const trusted = readCallerContext({ propagator, header, policy: "trust", carrier });
  assert.equal(traceIdOf(trusted.parent), inHeader.traceId);
  const linked = readCallerContext({ propagator, header, policy: "link", carrier });
  assert.equal(traceIdOf(linked.parent), "");
  assert.equal(linked.links.length, 1);
  const root = readCallerContext({ propagator, header, policy: "ignore", carrier });
  assert.equal(traceIdOf(root.parent), "");
  assert.equal(propagation.getBaggage(root.parent)?.getEntry("from")?.value, "body");
});

test("nothing is read when tracing is off", () => {
  for (const policy of ["link", "trust", "ignore"] as const) {
    const carrier = { traceparent: traceparent(inBody) };
    const caller = readCallerContext({ propagator: createSilentPropagator(), header, policy, carrier });
    assert.deepEqual(caller, { parent: ROOT_CONTEXT, links: [] });
  }
});

describe("trace carrier", () => {
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const spanId = "b7ad6b7169203331";
  const traceparent = `00-${traceId}-${spanId}-01`;
  const propagator = createPropagator();

  test("injected trace, tracestate and baggage are extracted in another service", async (t) => {
    const { tracer } = testTelemetry(t, "image-pipeline");
    const caller = extractCarrier(propagator, {
      traceparent,
      tracestate: "vendor=a:1,other=b",
      baggage: "tenant=t1,note=a%20b;ttl=3",
    });
    await withSpan(tracer, "image-pipeline", { parent: caller }, (span, scope) => {
      const carrier = injectCarrier(propagator, scope);
      assert.deepEqual(carrier, {
        traceparent: `00-${traceId}-${span.spanContext().spanId}-01`,
        tracestate: "vendor=a:1,other=b",
        baggage: "tenant=t1,note=a%20b;ttl=3",
      });
      const received = extractCarrier(propagator, carrier);
      const remote = trace.getSpanContext(received);
      assert.equal(remote?.traceId, traceId);
      assert.equal(remote?.spanId, span.spanContext().spanId);
      assert.equal(remote?.isRemote, true);
      assert.equal(remote?.traceState?.get("vendor"), "a:1");
      assert.equal(propagation.getBaggage(received)?.getEntry("note")?.value, "a b");
    });
  });

  test("no trace gives an empty carrier", () => {
    assert.deepEqual(injectCarrier(propagator, ROOT_CONTEXT), {});
  });

  test("silent propagator writes and reads nothing", () => {
    const silent = createSilentPropagator();
    const base = extractCarrier(propagator, { traceparent });
    assert.deepEqual(injectCarrier(silent, base), {});
    assert.equal(extractCarrier(silent, { traceparent }), ROOT_CONTEXT);
  });

  for (const carrier of [
    { Traceparent: traceparent, TraceState: "vendor=1", BAGGAGE: "tenant=t1" },
    { TRACEPARENT: traceparent, TRACESTATE: "vendor=1", Baggage: "tenant=t1" },
  ]) {
    test(`carrier keys match case-insensitively: ${Object.keys(carrier)}`, () => {
      const scope = extractCarrier(propagator, carrier);
      assert.equal(traceIdOf(scope), traceId);
      assert.equal(trace.getSpanContext(scope)?.traceState?.serialize(), "vendor=1");
      assert.equal(propagation.getBaggage(scope)?.getEntry("tenant")?.value, "t1");
    });
  }

  test("of several spellings of a key, lower case has priority, then the first", () => {
    const other = `00-${traceId.replace("0af7", "ffff")}-${spanId}-01`;
    assert.equal(traceIdOf(extractCarrier(propagator, { Traceparent: other, traceparent })), traceId);
    assert.equal(traceIdOf(extractCarrier(propagator, { traceparent, TRACEPARENT: other })), traceId);
    assert.equal(traceIdOf(extractCarrier(propagator, { TraceParent: traceparent, TRACEPARENT: other })), traceId);
  });

  const garbage: Record<string, Record<string, string>> = {
    "an empty carrier": {},
    "an empty traceparent": { traceparent: "" },
    prose: { traceparent: "a red heart" },
    "upper-case digits": { traceparent: traceparent.toUpperCase() },
    "too short a trace id": { traceparent: `00-${traceId.slice(1)}-${spanId}-01` },
    "a trace id of zeros": { traceparent: `00-${"0".repeat(32)}-${spanId}-01` },
    "a span id of zeros": { traceparent: `00-${traceId}-${"0".repeat(16)}-01` },
    "version ff": { traceparent: `ff-${traceId}-${spanId}-01` },
    "version 00 with a tail": { traceparent: `${traceparent}-tail` },
    "no flags": { traceparent: `00-${traceId}-${spanId}` },
    "two parents": { traceparent: `${traceparent}, ${traceparent}` },
    "a line break": { traceparent: `${traceparent}\r\nx: y` },
    "a long value": { traceparent: "0".repeat(8192) },
    "a tracestate without a traceparent": { tracestate: "vendor=1" },
    "other keys": { "": "", prompt: "a red heart", constructor: "x", toString: "y", "🔥": traceparent },
    "a broken percent-encoding in the baggage": { baggage: "a=%E0%A4%A" },
    "an invalid baggage": { baggage: ";;;===,,," },
  };

  for (const [what, carrier] of Object.entries(garbage)) {
    test(`invalid carrier leaves the base context unchanged: ${what}`, () => {
      const base = extractCarrier(propagator, { traceparent: `00-${"1".repeat(32)}-${"2".repeat(16)}-01` });
      assert.equal(extractCarrier(propagator, carrier, base), base);
      assert.equal(extractCarrier(propagator, carrier), ROOT_CONTEXT);
    });
  }

  for (const [what, pairs] of Object.entries({
    "a future version with a tail": { traceparent: `01-${traceId}-${spanId}-01-tail` },
    "a space on each side": { traceparent: ` ${traceparent} ` },
    "an invalid tracestate": { traceparent, tracestate: "=,=;;\u0000" },
    "a tracestate beyond its limits": { traceparent, tracestate: "a=b,".repeat(2000) },
    "a broken baggage": { traceparent, baggage: "a=%" },
  })) {
    test(`parent is read despite ${what}`, () => {
      const scope = extractCarrier(propagator, pairs);
      assert.equal(traceIdOf(scope), traceId);
      const { tracestate = "" } = injectCarrier(propagator, scope);
      assert.ok(tracestate.length <= 512, "what goes on is within the limits of the specification");
    });
  }

  test("propagator that throws does not fail the request", () => {
    const broken: TextMapPropagator = {
      inject() {},
      extract() {
        throw new Error("broken");
      },
      fields: () => [],
    };
    assert.equal(extractCarrier(broken, { traceparent }), ROOT_CONTEXT);
  });

  test("trace id is available when the trace is not sampled", () => {
    assert.equal(traceIdOf(extractCarrier(propagator, { traceparent: `00-${traceId}-${spanId}-00` })), traceId);
    assert.equal(traceIdOf(ROOT_CONTEXT), "");
  });
});
