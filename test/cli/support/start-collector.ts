import type { TestContext } from "node:test";
import { listen } from "../../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../../src/mesh/serve/connect-handler.js";
import { createCollector } from "../../../src/studio/collector.js";
import type { SpanRecord } from "../../../src/trace/span-record.js";

/** A collector that runs until the test is done, and has these spans. */
export async function startCollector(t: TestContext, spans: readonly SpanRecord[] = []) {
  const { routes, interceptors, httpHandler, store } = createCollector();
  store.add(spans);
  const handler = createConnectHandler({ routes, interceptors, fallback: httpHandler });
  const listening = await listen({ handler, port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  return { url: listening.url, store };
}
