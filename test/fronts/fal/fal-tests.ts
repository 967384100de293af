import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createFalFront } from "../../../src/fronts/fal/front.js";
import { JobService } from "../../../src/gen/throughline/v1/job_pb.js";
import { createCallerDirectory } from "../../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../../src/mesh/access/caller-keys.js";
import type { HttpFront } from "../../../src/mesh/serve/http-front.js";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import type { SpanRecord } from "../../../src/trace/span-record.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { createSwitchEngine, type JobMesh, jobApp, startJobMesh } from "../../support/job-mesh.js";

/** An image of an answer. */
export interface FalImage {
  readonly url: string;
  readonly content_type: string;
  readonly file_name: string;
  readonly file_size: number;
  readonly width: number;
  readonly height: number;
}

/** JSON of an answer: the fields of all forms. Those that an answer does not have are undefined. */
export interface FalBody {
  readonly status: string;
  readonly queue_position: number;
  readonly request_id: string;
  readonly response_url: string;
  readonly status_url: string;
  readonly cancel_url: string;
  readonly logs: readonly { readonly message: string }[] | null;
  readonly metrics: { readonly inference_time: number };
  readonly error: string;
  readonly error_type: string;
  readonly detail: readonly { readonly loc: readonly string[]; readonly msg: string }[];
  readonly image: FalImage;
  readonly images: readonly FalImage[];
  readonly trace_id: string;
  readonly seed: number;
  readonly prompt: string;
  readonly has_nsfw_concepts: readonly boolean[];
  readonly timings: { readonly inference: number };
  readonly progress: { readonly step: number; readonly total_steps: number };
}

/** An answer. */
export interface Answer {
  readonly status: number;
  readonly header: Headers;
  readonly text: string;
  /** The text as JSON; empty if it is none. */
  readonly body: FalBody;
}

/** Host at which a bare path runs. */
export const runHost = "run.example:8443";
/** Open status streams that one client may have. */
export const maxStatusStreams = 3;
/** A request id that no job has. */
export const unknownId = "0123456789abcdef0123456789abcdef";
export const prompt = "a red heart";
/** A caller's carrier, as OpenTelemetry injects it. */
export const carrier = {
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "a=1",
};

/** What the suites of fal's API share: one mesh, and requests of the caller anna unless a header says otherwise. */
export interface FalTests {
  readonly mesh: JobMesh;
  /** `slow` may start one request. */
  readonly keys: Readonly<Record<"anna" | "ben" | "slow", string>>;
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** Polls as fal's clients do, and returns the status of the request's end. */
  completed(statusUrl: string): Promise<Answer>;
  jobsOf(key: string): Client<typeof JobService>;
  /** All spans, once there is one of this name. */
  spansWith(name: string): Promise<SpanRecord[]>;
  /** Has the worker run an engine that stops before a step until it is released. */
  useHeld(step: number): ReturnType<typeof createHeldEngine>;
  /** Has the worker run an engine that is free. */
  useFake(): void;
}

/** Runs suites with one mesh: to open a database costs seconds. */
export function withFalMesh(describeAll: (fal: FalTests) => void): void {
  describe("fal's API", () => {
    const keys = { anna: createCallerKey(), ben: createCallerKey(), slow: createCallerKey() };
    const { engine, use } = createSwitchEngine();
    let started: JobMesh | undefined;
    const get = () => started ?? assert.fail("the mesh is there in tests only");
    before(async () => {
      const callers = Object.entries(keys).map(([name, key]) => ({
        name,
        keys: [hashCallerKey(key)],
        certificates: [],
        mayUse: (app: string) => app === jobApp,
        ...(name === "slow" && { rate: { perSecond: 0.001, burst: 1, label: "1 request" }, maxConcurrent: 1 }),
      }));
      started = await startJobMesh({
        engines: [engine],
        webhooks: { policy: { hosts: ["hooks.invalid"] }, secret: Buffer.alloc(24, 1).toString("base64") },
        pipeline: {
          fronts: [holdingFront(createFalFront({ runHost, maxStatusStreams }))],
          corsOrigins: ["http://page.example"],
        },
        serve: { callers: { current: createCallerDirectory(callers), onChange() {}, close() {} } },
      });
    });
    after(() => started?.stop());

    const send: FalTests["send"] = async (method, path, body, headers = {}) => {
      const response = await fetch(new URL(path, get().url), {
        method,
        headers: { authorization: `Key ${keys.anna}`, "content-type": "application/json", ...headers },
        ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      const isJson = response.headers.get("content-type")?.startsWith("application/json") === true;
      return { status: response.status, header: response.headers, text, body: isJson ? JSON.parse(text) : {} };
    };
    describeAll({
      get mesh() {
        return get();
      },
      keys,
      send,
      post: (path, body, headers) => send("POST", path, body, headers),
      get: (path, headers) => send("GET", path, undefined, headers),
      async completed(statusUrl) {
        for (;;) {
          const answer = await send("GET", statusUrl);
          if (answer.status !== 202) {
            return answer;
          }
          await delay(20);
        }
      },
      jobsOf: (key) =>
        createClient(
          JobService,
          createGrpcTransport({
            baseUrl: get().url,
            interceptors: [
              (next) => (call) => {
                call.header.set("authorization", `Key ${key}`);
                return next(call);
              },
            ],
          }),
        ),
      spansWith: (wanted) =>
        get().collector.waitFor((all) => all.some(({ name }) => name === wanted), AbortSignal.timeout(30_000)),
      useHeld(step) {
        const held = createHeldEngine(step);
        use(held.engine);
        return held;
      },
      useFake: () => void use(createFakeEngine()),
    });
  });
}

/** Header of a request that is handled once its client has left. */
export const heldHeader = "x-test-held";

/** A front that handles requests with {@link heldHeader} when their client has left, its body being read before. */
function holdingFront(front: HttpFront): HttpFront {
  return {
    ...front,
    handle: (call) =>
      front.handle({
        ...call,
        async readBody(maxBytes) {
          const body = await call.readBody(maxBytes);
          if (call.header.has(heldHeader)) {
            await once(call.response, "close");
          }
          return body;
        },
      }),
  };
}

/** Server-sent events of a text. */
export function eventsOf(text: string): FalBody[] {
  return text
    .split("\n\n")
    .filter(Boolean)
    .map((event) => JSON.parse(event.replace(/^data: /, "")));
}

/** Locations of an answer's wrong fields, such as `body.image_size.width`. */
export function locationsOf({ body }: Answer): readonly string[] {
  return body.detail.map(({ loc }) => loc.join("."));
}
