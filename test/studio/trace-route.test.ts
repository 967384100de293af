import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { after, before, suite, test } from "node:test";
import { type Listening, listen } from "../../src/mesh/port/listen.js";
import { respondPlain } from "../../src/mesh/port/node-handler.js";
import { createSpanStore } from "../../src/studio/span-store.js";
import { createTraceRoute } from "../../src/studio/trace-route.js";
import { makeSpan } from "../support/make-span.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const otherId = "1af7651916cd43dd8448eb211c80319c";

suite("GET /traces/<id>", () => {
  const store = createSpanStore();
  const received = new EventEmitter();
  let server: Listening;
  before(async () => {
    const route = createTraceRoute({
      ...store,
      waitForTrace(...query) {
        received.emit("received");
        return store.waitForTrace(...query);
      },
    });
    server = await listen({
      port: 0,
      handler: (request, response) => {
        if (!route(request, response)) {
          respondPlain(response, 418, "not the route's");
        }
      },
    });
    store.add([makeSpan({ traceId, spanId: "00000000000000a1", name: "root", service: "a", endMs: 1 })]);
  });
  after(() => server.stop({ graceMs: 0 }));

  const get = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(server.url + path, init);
    return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
  };

  test("trace route returns the stored spans at once", async () => {
    const { status, type, text } = await get(`/traces/${traceId}`);
    assert.equal(status, 200);
    assert.equal(type, "application/json");
    const [span, ...others] = JSON.parse(text).spans;
    assert.deepEqual(others, []);
    assert.equal(span.name, "root");
    assert.equal(span.spanId, "00000000000000a1");
    assert.equal((await get(`/traces/${otherId}`)).text, '{"spans":[]}\n');
  });

  test("trace route draws the tree as text", async () => {
    const { type, text } = await get(`/traces/${traceId}?format=text`);
    assert.equal(type, "text/plain; charset=utf-8");
    assert.match(text, /^root {2}a +\d.*█\n$/);
  });

  test("trace route waits for the given number of spans", async () => {
    const waiting = get(`/traces/${otherId}?spans=2&wait=60000`);
    await once(received, "received");
    store.add([makeSpan({ traceId: otherId, spanId: "00000000000000b1" })]);
    store.add([makeSpan({ traceId: otherId, spanId: "00000000000000b2" })]);
    assert.equal(JSON.parse((await waiting).text).spans.length, 2);
  });

  test("trace route returns the stored spans when the wait ends", async () => {
    assert.equal(JSON.parse((await get(`/traces/${traceId}?spans=9&wait=20`)).text).spans.length, 1);
  });

  test("trace route rejects invalid requests and ignores other paths", async () => {
    const cases = [
      ["/traces/", 404],
      ["/traces/0AF7651916CD43DD8448EB211C80319C", 404],
      [`/traces/${traceId}/`, 404],
      [`/traces/${traceId}?spans=-1`, 400],
      [`/traces/${traceId}?spans=10001`, 400],
      [`/traces/${traceId}?wait=1e3`, 400],
      [`/traces/${traceId}?wait=60001`, 400],
      [`/traces/${traceId}?format=xml`, 400],
      ["/v1/traces", 418],
    ] as const;
    for (const [path, status] of cases) {
      assert.equal((await get(path)).status, status, path);
    }
    assert.equal((await get(`/traces/${traceId}`, { method: "POST" })).status, 405);
  });

  test("trace that cannot be written fails only its own request", async (t) => {
    const causes: unknown[] = [];
    const broken = new Error("broken");
    const spansOf = () => {
      throw broken;
    };
    const route = createTraceRoute({ ...store, spansOf }, { onInternalError: (error) => causes.push(error) });
    const failing = await listen({ port: 0, handler: route });
    t.after(() => failing.stop({ graceMs: 0 }));
    const response = await fetch(`${failing.url}/traces/${traceId}?spans=9`);
    assert.equal(response.status, 500);
    assert.equal(await response.text(), "the trace cannot be written\n");
    assert.deepEqual(causes, [broken]);
  });
});
