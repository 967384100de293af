import { makeSpan } from "./make-span.js";

/*
 * A trace with everything that a collector stores: two resources, attributes of all types, events, a link, and spans that failed or still run.
 */

export const traceId = "0af7651916cd43dd8448eb211c80319c";
const pipeline = { "service.name": "image-pipeline", "service.version": "1", "process.args": ["a", "b"] };
const worker = { "service.name": "worker", "host.cpus": 8 };
export const root = makeSpan({
  traceId,
  name: "root",
  kind: "SERVER",
  endMs: 10,
  traceState: "vendor=1,other=2",
  attributes: {
    text: "x",
    empty: "",
    whole: 5,
    negative: -7,
    fraction: 0.5,
    huge: 1e300,
    "as.text": "9007199254740993",
    truth: true,
    texts: ["x", "y"],
    numbers: [1, 2.5],
    truths: [true, false],
    none: [],
  },
  links: [{ traceId: "1".repeat(32), spanId: "2".repeat(16), attributes: { why: "caller" } }],
  resource: pipeline,
});
export const below = makeSpan({
  traceId,
  name: "below",
  kind: "CLIENT",
  service: "worker",
  parentSpanId: root.spanId,
  startMs: 5,
  endMs: 10,
  status: { code: "ERROR", message: "INTERNAL" },
  events: [
    { name: "denoising", timeUnixNano: root.startUnixNano + 7_000_001n, attributes: { step: 1 } },
    { name: "late", timeUnixNano: root.startUnixNano + 8_000_000n, attributes: {} },
  ],
  resource: worker,
});
export const runs = {
  ...makeSpan({ traceId, name: "runs", kind: "PRODUCER", service: "worker", startMs: 6, resource: worker }),
  endUnixNano: 0n,
};
export const ended = makeSpan({
  traceId,
  name: "ended",
  kind: "CONSUMER",
  endMs: 1,
  status: { code: "OK", message: "" },
});
export const spans = [below, runs, ended, root];
