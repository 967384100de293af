import assert from "node:assert/strict";
import { test } from "node:test";
import { propagation, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { readCallerContext } from "../../src/trace/carrier.js";
import { traceIdOf } from "../../src/trace/span-scope.js";
import { createPropagator, createSilentPropagator } from "../../src/trace/telemetry/spans.js";

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
