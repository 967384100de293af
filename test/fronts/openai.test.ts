import assert from "node:assert/strict";
import { suite, test } from "node:test";
import sharp from "sharp";
import { createDirectoryStore } from "../../src/image/directory-store.js";
import { type CallerIdentity, createCallerDirectory } from "../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createHeldEngine } from "../support/held-engine.js";
import { appId, serveOpenAi } from "./support/serve-openai.js";

interface ImagesAnswer {
  readonly created: number;
  readonly size: string;
  readonly output_format: string;
  readonly data: readonly {
    readonly b64_json?: string;
    readonly url?: string;
    readonly seed: number;
    readonly trace_id: string;
  }[];
}

interface ErrorAnswer {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

const prompt = "a red heart";

async function imagesOf(response: Response): Promise<ImagesAnswer> {
  assert.equal(response.status, 200, response.ok ? "" : await response.text());
  return response.json() as Promise<ImagesAnswer>;
}

async function errorOf(response: Response) {
  const { error } = (await response.json()) as ErrorAnswer;
  return { status: response.status, ...error };
}

const bytesOf = (base64: string | undefined) => Buffer.from(base64 ?? assert.fail("no image"), "base64");

/** Server-sent events of a body: names with parsed data, and comments. */
function eventsOf(text: string) {
  const blocks = text.split("\n\n").filter((block) => block !== "");
  const comments = blocks.filter((block) => block.startsWith(": ")).map((block) => block.slice(2));
  const events = blocks
    .filter((block) => !block.startsWith(": "))
    .map((block) => {
      const [event = "", data = ""] = block.split("\n");
      return { name: event.replace("event: ", ""), data: JSON.parse(data.replace("data: ", "")) };
    });
  return { comments, events };
}

/** Access for callers with keys. */
function accessOf(...callers: readonly Omit<CallerIdentity, "keys" | "certificates">[]) {
  const keys = callers.map(() => createCallerKey());
  const identities = callers.map((caller, index) => ({
    ...caller,
    keys: [hashCallerKey(keys[index] ?? "")],
    certificates: [],
  }));
  const current = createCallerDirectory(identities);
  return { keys, serve: { callers: { current, onChange() {}, close() {} } } };
}

const bearer = (key: string | undefined) => ({
  headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
});

suite("OpenAI's images API", () => {
  test("one image has seed and trace beside it, in a trace of exactly the six spans", async (t) => {
    const { post, collector, lines } = await serveOpenAi(t);

    const response = await post({
      prompt,
      seed: 7,
      model: appId,
      size: "128x64",
      user: "someone",
      style: "vivid",
      quality: "hd",
    });

    const { data, ...answer } = await imagesOf(response);
    assert.ok(Math.abs(answer.created - Date.now() / 1000) < 60);
    assert.deepEqual([answer.size, answer.output_format, data.length, data[0]?.seed], ["128x64", "png", 1, 7]);
    const { format, width, height } = await sharp(bytesOf(data[0]?.b64_json)).metadata();
    assert.deepEqual([format, width, height], ["png", 128, 64]);
    assert.equal(response.headers.get("traceresponse")?.split("-")[1], data[0]?.trace_id);

    const spans = collector.spans();
    const nameOf = (id: string | undefined) => spans.find(({ spanId }) => spanId === id)?.name;
    assert.deepEqual(
      spans.map((span) => [span.name, nameOf(span.parentSpanId), span.attributes["throughline.front"]]).sort(),
      [
        ["call-inference-worker", "image-pipeline", undefined],
        ["diffusion", "inference", undefined],
        ["image-pipeline", undefined, "openai"],
        ["inference", "image-pipeline", undefined],
        ["preprocess-prompt", "image-pipeline", undefined],
        ["upload", "inference", undefined],
      ],
    );
    assert.ok(spans.every(({ traceId }) => traceId === data[0]?.trace_id));
    assert.ok(lines.some((line) => line.includes('"front":"openai"')));
    assert.ok(!lines.join("").includes(prompt));
  });

  test("n images have consecutive seeds, and the same seed gives the same image", async (t) => {
    const { post } = await serveOpenAi(t);
    const { data } = await imagesOf(await post({ prompt, n: 3, seed: 4_294_967_294 }));
    assert.deepEqual(
      data.map(({ seed }) => seed),
      [4_294_967_294, 4_294_967_295, 0],
    );
    assert.equal(new Set(data.map((image) => image.b64_json)).size, 3);
    const again = await imagesOf(await post({ prompt, seed: 0 }));
    assert.equal(again.data[0]?.b64_json, data[2]?.b64_json);
    const random = await imagesOf(await post({ prompt, n: 2, seed: null, size: null }));
    assert.equal(((random.data[0]?.seed ?? 0) + 1) % 2 ** 32, random.data[1]?.seed);
  });

  test("format, compression and extensions reach the engine", async (t) => {
    const { post } = await serveOpenAi(t);
    const lossy = async (output_compression: number) =>
      bytesOf(
        (await imagesOf(await post({ prompt, seed: 1, output_format: "jpeg", output_compression }))).data[0]?.b64_json,
      );
    const [small, large] = [await lossy(0), await lossy(100)];
    assert.ok(small.length < large.length);
    assert.equal((await sharp(small).metadata()).format, "jpeg");
    const options = { num_inference_steps: 1, guidance_scale: 0, negative_prompt: "blur", seed: 1 };
    await imagesOf(await post({ prompt, ...options }));
    const wrong = await errorOf(await post({ prompt, ...options, num_inference_steps: 151 }));
    assert.deepEqual([wrong.status, wrong.param], [400, "num_inference_steps"]);
  });

  test("response_format url returns a URL of the pipeline's own origin", async (t) => {
    const folder = await temporaryFolder();
    const { post, url } = await serveOpenAi(t, { store: await createDirectoryStore({ directory: folder }) });
    const { data } = await imagesOf(await post({ prompt, response_format: "url" }));
    assert.ok(data[0]?.url?.startsWith(`${url}/images/`), data[0]?.url);
    assert.equal((await fetch(data[0]?.url ?? "")).status, 200);
  });

  test("a stream sends the partial images and then the image that a plain request returns", async (t) => {
    const { post } = await serveOpenAi(t);
    const request = { prompt, seed: 3, num_inference_steps: 8 };
    const response = await post({ ...request, stream: true, partial_images: 3 });
    assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
    assert.equal(response.headers.get("x-accel-buffering"), "no");
    const { events, comments } = eventsOf(await response.text());

    assert.deepEqual(
      events.map(({ name, data }) => [name, data.type, data.partial_image_index, data.output_format]),
      [
        ["image_generation.partial_image", "image_generation.partial_image", 0, "jpeg"],
        ["image_generation.partial_image", "image_generation.partial_image", 1, "jpeg"],
        ["image_generation.partial_image", "image_generation.partial_image", 2, "jpeg"],
        ["image_generation.completed", "image_generation.completed", undefined, "png"],
      ],
    );
    assert.equal((await sharp(bytesOf(events[0]?.data.b64_json)).metadata()).format, "jpeg");
    const plain = await imagesOf(await post(request));
    assert.equal(events.at(-1)?.data.b64_json, plain.data[0]?.b64_json);
    assert.equal(events.at(-1)?.data.trace_id, response.headers.get("traceresponse")?.split("-")[1]);
    assert.ok(comments.includes("step 8 of 8"), comments.join());

    const none = eventsOf(await (await post({ ...request, stream: true })).text());
    assert.deepEqual(
      none.events.map(({ name }) => name),
      ["image_generation.completed"],
    );
  });

  test("partial images are spread over the model's default steps", async (t) => {
    const { post } = await serveOpenAi(t);
    // The fake engine's default is 4 steps.
    const { events } = eventsOf(await (await post({ prompt, stream: true, partial_images: 1 })).text());
    assert.deepEqual(
      events.map(({ name }) => name),
      ["image_generation.partial_image", "image_generation.completed"],
    );
  });

  test("bad input is an error in OpenAI's form that names the parameter", async (t) => {
    const { post, url } = await serveOpenAi(t, {
      otherApps: Array.from({ length: 11 }, (_, index) => `local/model-${String(index).padStart(2, "0")}`),
    });
    const cases: [name: string, body: unknown, status: number, param: string | null, code: string, message: RegExp][] =
      [
        ["n of 11", { prompt, n: 11 }, 400, "n", "invalid_value", /^n: must be from 1 to 10$/],
        ["partial_images of 4", { prompt, partial_images: 4 }, 400, "partial_images", "invalid_value", /from 0 to 3$/],
        ["stream and n", { prompt, stream: true, n: 2 }, 400, "n", "invalid_value", /^n: must be 1 with stream: true/],
        ["no prompt", {}, 400, "prompt", "invalid_value", /^prompt: is required$/],
        ["an empty prompt", { prompt: " \n" }, 400, "prompt", "invalid_value", /1 to 2000 code points/],
        [
          "a size that is none",
          { prompt, size: "large" },
          400,
          "size",
          "invalid_value",
          /^size: must be auto or WIDTHxHEIGHT/,
        ],
        ["a size over the limit", { prompt, size: "4096x64" }, 400, "size", "invalid_value", /^size \(width\): .*2048/],
        [
          "a size that is no multiple",
          { prompt, size: "64x100" },
          400,
          "size",
          "invalid_value",
          /^size \(height\): .*multiple of 8/,
        ],
        [
          "an unknown format",
          { prompt, output_format: "gif" },
          400,
          "output_format",
          "invalid_value",
          /png, jpeg or webp$/,
        ],
        ["a seed below 0", { prompt, seed: -1 }, 400, "seed", "invalid_value", /^seed: must be from 0 to 4294967295$/],
        ["JSON that is none", "{prompt", 400, null, "invalid_json", /not valid JSON/],
        ["JSON that is too deep", "[".repeat(1_000_000), 400, null, "invalid_json", /deeper than the limit of 100$/],
        ["JSON with too many values", `[${"0,".repeat(500_000)}0]`, 400, null, "invalid_json", /the limit of 100000$/],
        ["JSON that is no object", [prompt], 400, null, "invalid_json", /must be a JSON object/],
        ["a body of 10 MiB", { prompt: "x".repeat(10 * 2 ** 20) }, 413, null, "request_too_large", /1048576 bytes/],
        [
          "a name that is no app id",
          { prompt, model: "dall-e-3" },
          404,
          "model",
          "model_not_found",
          /model-08 and 2 more$/,
        ],
        [
          "an unknown app",
          { prompt, model: "local/other" },
          404,
          "model",
          "model_not_found",
          /: local\/text-to-image-worker, local\/model-00/,
        ],
      ] as const;
    for (const [name, body, status, param, code, message] of cases) {
      const error = await errorOf(await post(body));
      assert.deepEqual([error.status, error.param, error.code], [status, param, code], name);
      assert.match(error.message, message, name);
      assert.equal(error.type, "invalid_request_error", name);
    }
    const get = await errorOf(await fetch(`${url}/v1/images/generations`));
    assert.deepEqual([get.status, get.code], [405, "method_not_allowed"]);
    await imagesOf(await post({ prompt }));
  });

  test("/v1/models lists the models that the caller may use, and finds one by its id, encoded or not", async (t) => {
    const { keys, serve } = accessOf({ name: "shop", mayUse: (id) => id === appId });
    const { url, post } = await serveOpenAi(t, { otherApps: ["local/other"], serve });
    const get = (path: string) => fetch(`${url}/v1/models${path}`, bearer(keys[0]));
    const list = (await (await get("")).json()) as {
      data: { id: string; object: string; owned_by: string; name: string }[];
    };
    assert.deepEqual(
      list.data.map(({ id, object, owned_by, name }) => [id, object, owned_by, name]),
      [[appId, "model", "local", "fake"]],
    );
    for (const path of [`/${appId}`, `/${encodeURIComponent(appId)}`, `/${appId.replace("/", "%2f")}`]) {
      assert.equal(((await (await get(path)).json()) as { id: string }).id, appId);
    }
    for (const path of ["/local/other", "/%zz"]) {
      assert.deepEqual(await errorOf(await get(path)).then(({ status, code }) => [status, code]), [
        404,
        "model_not_found",
      ]);
    }
    const denied = await errorOf(await post({ prompt, model: "local/other" }, bearer(keys[0])));
    assert.deepEqual([denied.status, denied.code], [403, "permission_denied"]);
  });

  test("keys are those of the RPCs: without one 401, before the body is read", async (t) => {
    const { keys, serve } = accessOf({ name: "shop", mayUse: () => true });
    const { post, url } = await serveOpenAi(t, { serve });
    const none = await errorOf(await post("no JSON"));
    assert.deepEqual([none.status, none.code], [401, "invalid_api_key"]);
    assert.equal((await errorOf(await fetch(`${url}/v1/models`))).status, 401);
    await imagesOf(await post({ prompt }, bearer(keys[0])));
  });

  test("each image takes a token of the caller's rate; over it 429 says when to retry", async (t) => {
    const rate = { perSecond: 0.001, burst: 3, label: "3 requests" };
    const { keys, serve } = accessOf({ name: "shop", mayUse: () => true, rate });
    const { post } = await serveOpenAi(t, { serve });
    await imagesOf(await post({ prompt, n: 2 }, bearer(keys[0])));
    const response = await post({ prompt, n: 2 }, bearer(keys[0]));
    assert.ok(Number(response.headers.get("retry-after")) >= 1);
    assert.ok(Number(response.headers.get("retry-after-ms")) > 900);
    const error = await errorOf(response);
    assert.deepEqual([error.status, error.type, error.code], [429, "rate_limit_error", "rate_limit_exceeded"]);
  });

  test("n images run within the caller's limit of concurrent calls", async (t) => {
    const { keys, serve } = accessOf({ name: "shop", mayUse: () => true, maxConcurrent: 2 });
    const { post } = await serveOpenAi(t, { serve });
    const { data } = await imagesOf(await post({ prompt, n: 5, seed: 0 }, bearer(keys[0])));
    assert.deepEqual(
      data.map(({ seed }) => seed),
      [0, 1, 2, 3, 4],
    );
  });

  test("a full worker is 429 with the time until a free slot", async (t) => {
    const held = createHeldEngine();
    const { post } = await serveOpenAi(t, { engine: held.engine, maxWaiting: 0 });
    const running = post({ prompt });
    await held.reached;
    const response = await post({ prompt });
    assert.notEqual(response.headers.get("retry-after"), null);
    assert.equal((await errorOf(response)).code, "rate_limit_exceeded");
    held.release();
    await imagesOf(await running);
  });

  for (const stream of [false, true]) {
    test(`a disconnect ends the generation (${stream ? "stream" : "one answer"})`, async (t) => {
      const held = createHeldEngine();
      const { post, collector } = await serveOpenAi(t, { engine: held.engine });
      const client = new AbortController();
      const response = post({ prompt, stream }, { signal: client.signal }).then((answer) => answer.text());
      await held.reached;
      client.abort();
      await assert.rejects(response, { name: "AbortError" });
      const isRoot = ({ name }: { readonly name: string }) => name === "image-pipeline";
      const spans = await collector.waitFor((all) => all.some(isRoot), AbortSignal.timeout(30_000));
      assert.equal(spans.find(isRoot)?.attributes["rpc.response.status_code"], "CANCELLED");
      assert.equal(held.engine.stepsRun, 1);
    });

    test(`the client's time limit is the deadline (${stream ? "stream" : "one answer"})`, async (t) => {
      const held = createHeldEngine();
      const { post } = await serveOpenAi(t, { engine: held.engine });
      const headers = { "content-type": "application/json", "x-stainless-timeout": "0.5" };
      const response = await post({ prompt, stream }, { headers });
      if (stream) {
        const { events } = eventsOf(await response.text());
        assert.deepEqual([response.status, events.length, events[0]?.name], [200, 1, "error"]);
        assert.equal(events[0]?.data.error.code, "timeout");
      } else {
        const error = await errorOf(response);
        assert.deepEqual([error.status, error.code], [504, "timeout"]);
        // On a busy machine, the pipeline's own timer may be first; it does not know the step.
        assert.match(error.message, /^deadline exceeded: (denoising, step 1 of 4|waiting for the worker's response)$/);
      }
    });
  }

  test("an engine's failure is 500 without its message, and an event in a stream", async (t) => {
    const engine = createFakeEngine({
      beforeStep(step) {
        if (step === 2) {
          throw new Error("secret cause");
        }
      },
    });
    const { post } = await serveOpenAi(t, { engine });
    const plain = await post({ prompt });
    assert.deepEqual([plain.status, (await plain.text()).includes("secret")], [500, false]);
    const { events } = eventsOf(await (await post({ prompt, stream: true })).text());
    assert.deepEqual([events.at(-1)?.name, events.at(-1)?.data.error.type], ["error", "server_error"]);
    assert.ok(!JSON.stringify(events).includes("secret"));
  });

  test("traceparent is the parent of the trace if the pipeline trusts it, else a link", async (t) => {
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    const headers = { "content-type": "application/json", traceparent: `00-${traceId}-b7ad6b7169203331-01` };
    for (const trustTraceparent of [true, false]) {
      const { post, collector } = await serveOpenAi(t, { pipeline: { trustTraceparent } });
      await imagesOf(await post({ prompt }, { headers }));
      const root = collector.spans().find(({ name }) => name === "image-pipeline");
      assert.equal(root?.traceId === traceId, trustTraceparent);
      assert.deepEqual(
        root?.links.map((link) => link.traceId),
        trustTraceparent ? [] : [traceId],
      );
    }
  });

  test("a body without content-type application/json is 415, so no page of another origin can send one without a preflight", async (t) => {
    const engine = createFakeEngine();
    const { post } = await serveOpenAi(t, { engine });
    const body = new TextEncoder().encode(JSON.stringify({ prompt }));
    for (const headers of [
      {},
      { "content-type": "text/plain" },
      { "content-type": "application/x-www-form-urlencoded" },
      { "content-type": "text/plain; application/json" },
    ]) {
      const response = await post("", { body, headers });
      const { status, code, message } = await errorOf(response);
      assert.deepEqual([status, code], [415, "unsupported_content_type"]);
      assert.match(message, /content-type: application\/json/);
    }
    assert.equal(engine.generations, 0);
    await imagesOf(await post("", { body, headers: { "content-type": "Application/JSON; charset=utf-8" } }));
  });

  test("a time limit that is none, or too long for a timer, does not end the generation", async (t) => {
    const { post } = await serveOpenAi(t);
    for (const seconds of ["Infinity", "1e99", "10000000", "NaN", "-1", "0", "soon"]) {
      const headers = { "content-type": "application/json", "x-stainless-timeout": seconds };
      await imagesOf(await post({ prompt }, { headers }));
    }
  });

  test("the answer has the image's size, also for size auto", async (t) => {
    const { post } = await serveOpenAi(t);
    assert.equal((await imagesOf(await post({ prompt }))).size, "64x64");
    assert.equal((await imagesOf(await post({ prompt, size: "00128x00064" }))).size, "128x64");
    const { events } = eventsOf(await (await post({ prompt, stream: true })).text());
    assert.equal(events.at(-1)?.data.size, "64x64");
  });

  test("HEAD is served as GET; other methods are 405", async (t) => {
    const { url } = await serveOpenAi(t);
    const head = await fetch(`${url}/v1/models`, { method: "HEAD" });
    assert.deepEqual([head.status, await head.text()], [200, ""]);
    const options = await fetch(`${url}/v1/models`, { method: "OPTIONS" });
    assert.deepEqual([options.status, options.headers.get("allow")], [405, "GET, HEAD"]);
  });

  test("a page of an allowed origin may send the headers of OpenAI's client", async (t) => {
    const { url } = await serveOpenAi(t, { pipeline: { corsOrigins: ["http://localhost:5173"] } });
    const preflight = await fetch(`${url}/v1/images/generations`, {
      method: "OPTIONS",
      headers: {
        origin: "http://localhost:5173",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang,x-stainless-os,x-other",
      },
    });
    const allowed = preflight.headers.get("access-control-allow-headers")?.toLowerCase().split(", ") ?? [];
    assert.ok(
      ["authorization", "content-type", "x-stainless-lang", "x-stainless-os"].every((name) => allowed.includes(name)),
    );
    assert.ok(!allowed.includes("x-other"));
  });
});
