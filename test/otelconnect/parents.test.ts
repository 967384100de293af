import assert from "node:assert/strict";
import { test } from "node:test";
import { createContextValues, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import { context, propagation, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { createServerInterceptor, otelContext, type RemoteParent } from "../../src/otelconnect/otelconnect.js";
import { traceIdOf } from "../../src/trace/span-scope.js";
import { testTelemetry } from "../support/telemetry.js";
import { pingMesh } from "./ping-mesh.js";

const caller = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const headers = {
  traceparent: `00-${caller.traceId}-${caller.spanId}-01`,
  tracestate: "vendor=1",
  baggage: "tenant=t1",
};

const policies: readonly {
  remoteParent: RemoteParent | undefined;
  parent: string;
  links: string[];
  passedOn: unknown;
}[] = [
  { remoteParent: undefined, parent: "", links: [caller.spanId], passedOn: [undefined, ""] },
  { remoteParent: "link", parent: "", links: [caller.spanId], passedOn: [undefined, ""] },
  { remoteParent: "trust", parent: caller.spanId, links: [], passedOn: ["t1", "vendor=1"] },
  { remoteParent: "ignore", parent: "", links: [], passedOn: [undefined, ""] },
];

for (const { remoteParent, parent, links, passedOn } of policies) {
  test(`caller's trace headers, remoteParent ${remoteParent ?? "by default"}`, async (t) => {
    let seen: unknown;
    const mesh = await pingMesh(
      t,
      {
        unary: () => {
          const state = trace.getSpanContext(context.active())?.traceState?.serialize() ?? "";
          seen = [propagation.getActiveBaggage()?.getEntry("tenant")?.value, state];
          return {};
        },
      },
      { wire: "grpc", client: { filter: () => false }, server: { remoteParent } },
    );
    await mesh.client.unary({}, { headers });
    const [span] = await mesh.collector.waitFor((all) => all.length > 0, AbortSignal.timeout(30_000));
    assert.equal(span?.parentSpanId, parent);
    assert.equal(span?.traceId === caller.traceId, remoteParent === "trust");
    assert.deepEqual(
      span?.links.map(({ spanId }) => spanId),
      links,
    );
    assert.deepEqual(seen, passedOn);
  });
}

test("invalid trace headers make a root span", async (t) => {
  for (const traceparent of [
    "",
    "00-zz",
    `00-${"0".repeat(32)}-${caller.spanId}-01`,
    headers.traceparent.toUpperCase(),
  ]) {
    for (const remoteParent of ["link", "trust"] as const) {
      const mesh = await pingMesh(
        t,
        { unary: () => ({}) },
        { client: { filter: () => false }, server: { remoteParent } },
      );
      await mesh.client.unary({}, { headers: { traceparent } });
      const [span] = mesh.collector.spans();
      assert.deepEqual([span?.parentSpanId, span?.links], ["", []], `${remoteParent} ${traceparent}`);
    }
  }
});

test("propagator that throws fails no call", async (t) => {
  const propagator = {
    fields: () => [],
    inject: () => {},
    extract: () => {
      throw new Error("unreadable");
    },
  };
  const mesh = await pingMesh(t, { unary: ({ value }) => ({ value }) }, { server: { propagator } });
  assert.equal((await mesh.client.unary({ value: "a" })).value, "a");
  assert.equal(mesh.collector.spans().find(({ kind }) => kind === "SERVER")?.parentSpanId, "");
});

test("active span is the parent unless nesting is off", async (t) => {
  for (const nestInActiveSpan of [true, false]) {
    const mesh = await pingMesh(
      t,
      { unary: () => ({}) },
      { client: { filter: () => false }, server: { nestInActiveSpan } },
    );
    const { tracer } = testTelemetry(t, "http", { collector: mesh.collector });
    const active = tracer.startSpan("http", {}, ROOT_CONTEXT);
    await context.with(trace.setSpan(ROOT_CONTEXT, active), () => mesh.client.unary({}, { headers }));
    const [span] = mesh.collector.spans();
    assert.equal(span?.parentSpanId, nestInActiveSpan ? active.spanContext().spanId : caller.spanId);
  }
});

test("second interceptor of another kind nests in the first, and the handler has the inner span", async (t) => {
  const inner = testTelemetry(t, "inner");
  let seen = "";
  const mesh = await pingMesh(
    t,
    {
      unary(_request, { values }: HandlerContext) {
        seen = traceIdOf(values.get(otelContext));
        assert.equal(trace.getSpan(values.get(otelContext)), trace.getSpan(context.active()));
        return {};
      },
    },
    {
      serverInterceptors: [
        createServerInterceptor({ tracer: inner.tracer, spanName: () => "inner", nestInActiveSpan: false }),
      ],
    },
  );
  await mesh.client.unary({});
  const outer = mesh.collector.spans().find(({ kind }) => kind === "SERVER");
  const [span] = inner.collector.spans();
  assert.equal(span?.parentSpanId, outer?.spanId);
  assert.equal(seen, outer?.traceId);
});

test("interceptor used twice in a chain makes one span", async (t) => {
  const { tracer, collector } = testTelemetry(t, "callee");
  const twice = createServerInterceptor({ tracer });
  const between: Interceptor = (next) => async (request) => next({ ...request });
  const mesh = await pingMesh(
    t,
    {
      unary: () => ({}),
      async *serverStream() {
        yield {};
      },
    },
    { client: { filter: () => false }, server: { filter: () => false }, serverInterceptors: [twice, between, twice] },
  );
  await mesh.client.unary({});
  for await (const _message of mesh.client.serverStream({})) {
  }
  assert.deepEqual(
    collector.spans().map(({ name }) => name),
    ["test.v1.PingService/Unary", "test.v1.PingService/ServerStream"],
  );
});

test("retrying interceptor makes a span per attempt when placed before, and one when placed after", async (t) => {
  const retry: Interceptor = (next) => async (request) => {
    try {
      return await next(request);
    } catch {
      return await next(request);
    }
  };
  let calls = 0;
  const mesh = await pingMesh(
    t,
    {
      unary() {
        calls += 1;
        if (calls % 2 === 1) {
          throw new Error("the first time");
        }
        return {};
      },
    },
    { clientInterceptors: [retry] },
  );
  await mesh.client.unary({});
  const kinds = mesh.collector.spans().map(({ kind, status }) => `${kind} ${status.code}`);
  assert.deepEqual(kinds, ["SERVER ERROR", "SERVER UNSET", "CLIENT UNSET"]);
});

test("client's parent is the active span or the call's own", async (t) => {
  const mesh = await pingMesh(t, { unary: () => ({}) }, { server: { filter: () => false } });
  const { tracer } = testTelemetry(t, "page");
  const active = tracer.startSpan("active", {}, ROOT_CONTEXT);
  const given = tracer.startSpan("given", {}, ROOT_CONTEXT);
  const contextValues = createContextValues().set(otelContext, trace.setSpan(ROOT_CONTEXT, given));
  await context.with(trace.setSpan(ROOT_CONTEXT, active), async () => {
    await mesh.client.unary({});
    await mesh.client.unary({}, { contextValues });
    // The values may serve many calls.
    await mesh.client.unary({}, { contextValues });
  });
  assert.deepEqual(
    mesh.collector.spans().map(({ parentSpanId }) => parentSpanId),
    [active, given, given].map((span) => span.spanContext().spanId),
  );
});

test("call span is active in the handler's generator and in the request generator at every step", async (t) => {
  const mesh = await pingMesh(
    t,
    {
      async *bidiStream(requests) {
        for await (const { value } of requests) {
          yield { value: `${value} ${trace.getSpanContext(context.active())?.spanId}` };
        }
        yield { value: `end ${trace.getSpanContext(context.active())?.spanId}` };
      },
    },
    { wire: "grpc" },
  );
  async function* writing() {
    for (let i = 0; i < 3; i++) {
      yield { value: `${trace.getSpanContext(context.active())?.spanId}` };
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const seen: string[] = [];
  for await (const { value } of mesh.client.bidiStream(writing())) {
    assert.equal(trace.getSpan(context.active()), undefined, "the reader's context is its own");
    seen.push(value);
  }
  const spans = await mesh.collector.waitFor((all) => all.length >= 2, AbortSignal.timeout(30_000));
  const [client, server] = (["CLIENT", "SERVER"] as const).map(
    (kind) => spans.find((span) => span.kind === kind)?.spanId,
  );
  const line = `${client} ${server}`;
  assert.deepEqual(seen, [line, line, line, `end ${server}`]);
});

test("parent in the request's own context has priority", async (t) => {
  const parent = trace.setSpanContext(ROOT_CONTEXT, { traceId: "a".repeat(32), spanId: "b".repeat(16), traceFlags: 1 });
  const mesh = await pingMesh(
    t,
    { unary: () => ({}) },
    {
      client: { filter: () => false },
      server: {
        origin: ({ header }) => (header.has("x-known") ? { parent, links: [] } : undefined),
        attributes: ({ method }) => ({ "my.method": method.name }),
        attributeFilter: () => false,
      },
    },
  );
  await mesh.client.unary({}, { headers: { ...headers, "x-known": "1" } });
  await mesh.client.unary({}, { headers });
  assert.deepEqual(
    mesh.collector.spans().map(({ parentSpanId, attributes }) => [parentSpanId, attributes]),
    [
      ["b".repeat(16), { "my.method": "Unary" }],
      [caller.spanId, { "my.method": "Unary" }],
    ],
  );
});
