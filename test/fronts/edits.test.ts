import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import sharp from "sharp";
import { createOpenAiFront } from "../../src/fronts/openai/front.js";
import { type GenerationOptions, Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { type GenerateRequest, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { invalidField } from "../../src/mesh/errors/errors.js";
import { listen } from "../../src/mesh/port/listen.js";
import { type ConnectHandlerOptions, createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { requestLimits } from "../../src/request-limits.js";
import { serveOpenAi } from "./support/serve-openai.js";

const png = await sharp({ create: { width: 16, height: 16, channels: 3, background: "red" } })
  .png()
  .toBuffer();
const prompt = "a red heart";

/** OpenAI's API over a pipeline that keeps what it is asked for, and returns a red image. */
async function serveScripted(t: TestContext, options: Partial<ConnectHandlerOptions> = {}) {
  const requests: GenerateRequest[] = [];
  const answer = ({ options: wanted }: { readonly options?: GenerationOptions | undefined }) => {
    if (wanted?.loras.some(({ name }) => name === "unknown")) {
      throw invalidField("options.loras[0].name", "this model has no LoRA of that name; its LoRAs are: pixel");
    }
    if (wanted?.initImage?.[0] === 0) {
      throw invalidField("options.init_image", "is no PNG, JPEG or WebP image");
    }
    return { image: { data: png, contentType: "image/png", width: 16, height: 16 }, seed: wanted?.seed ?? 0 };
  };
  const handler = createConnectHandler({
    routes: ({ service }) =>
      void service(ImagePipelineService, {
        generate(request) {
          requests.push(request);
          return answer(request);
        },
        async *generateStream({ request }) {
          if (request === undefined) {
            return;
          }
          requests.push(request);
          const result = answer(request);
          const preview = { preview: png, previewContentType: "image/png" };
          yield {
            event: { case: "progress", value: { stage: Stage.DENOISING, step: 1, totalSteps: 2, ...preview } },
          };
          yield { event: { case: "result", value: result } };
        },
      }),
    readMaxBytes: 1_048_576,
    fronts: [createOpenAiFront()],
    ...options,
  });
  const { url, stop } = await listen({ handler, port: 0 });
  t.after(() => stop({ graceMs: 0 }));
  const endpoint = `${url}/v1/images/edits`;
  return {
    url,
    requests,
    /** Options of the newest request. */
    asked: () => requests.at(-1)?.options ?? assert.fail("no request"),
    post: (body: string | FormData, headers: Readonly<Record<string, string>> = {}) =>
      fetch(endpoint, { method: "POST", body, headers }),
  };
}

type Part = readonly [name: string, value: string | Uint8Array<ArrayBuffer>];

function formOf(parts: readonly Part[], image: Uint8Array<ArrayBuffer> | undefined = Uint8Array.from(png)): FormData {
  const form = new FormData();
  for (const [name, value] of [...(image ? [["image", image] as const] : []), ...parts]) {
    if (typeof value === "string") {
      form.append(name, value);
    } else {
      form.append(name, new Blob([value]), "my photo.png");
    }
  }
  return form;
}

async function errorOf(response: Response) {
  const { error } = (await response.json()) as { error: { message: string; param: string | null; code: string } };
  return { status: response.status, ...error };
}

suite("OpenAI's image edits", () => {
  test("a form's image and parameters are those of the request, and the answer is that of a generation", async (t) => {
    const { post, requests, asked } = await serveScripted(t);
    const response = await post(
      formOf([
        ["prompt", prompt],
        ["model", "local/worker"],
        ["n", "2"],
        ["size", "128x64"],
        ["output_format", "jpeg"],
        ["output_compression", "40"],
        ["negative_prompt", "blur"],
        ["seed", "7"],
        ["num_inference_steps", "12"],
        ["guidance_scale", "4.5"],
        ["strength", "0.5"],
        ["clip_skip", "1"],
        ["guidance_rescale", "0.25"],
        ["user", "someone"],
        ["input_fidelity", "high"],
        ["quality", ""],
      ]),
    );
    assert.equal(response.status, 200);
    const { data, size } = (await response.json()) as { data: { b64_json: string; seed: number }[]; size: string };
    assert.deepEqual([size, data.map(({ seed }) => seed)], ["16x16", [7, 8]]);
    assert.deepEqual(Buffer.from(data[0]?.b64_json ?? "", "base64"), png);
    const { initImage, $typeName: _, $unknown, ...options } = asked();
    assert.deepEqual(Buffer.from(initImage ?? []), png);
    assert.deepEqual(
      { ...options },
      {
        negativePrompt: "blur",
        width: 128,
        height: 64,
        numInferenceSteps: 12,
        guidanceScale: 4.5,
        seed: 8,
        scheduler: 0,
        format: 2,
        delivery: 3,
        strength: 0.5,
        loras: [],
        clipSkip: 1,
        quality: 40,
        guidanceRescale: 0.25,
      },
    );
    assert.deepEqual(
      requests.map((request) => [request.prompt, request.workerApp]),
      Array.from({ length: 2 }, () => [prompt, "local/worker"]),
    );
  });

  test("the worker starts from the image: its spans have the strength, and photos within 8 MiB arrive", async (t) => {
    const { url, collector } = await serveOpenAi(t, { maxWaiting: 20 });
    const post = (form: FormData) => fetch(`${url}/v1/images/edits`, { method: "POST", body: form });
    const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)));
    const pixels = Buffer.alloc(1600 * 1600 * 3, noise);
    const photo = await sharp(pixels, { raw: { width: 1600, height: 1600, channels: 3 } })
      .png({ compressionLevel: 0 })
      .toBuffer();
    assert.ok(photo.length > 7_500_000);
    const seeds = [
      ["prompt", prompt],
      ["seed", "7"],
    ] as const;
    const changed = await post(formOf([...seeds, ["strength", "0.5"]], Uint8Array.from(photo)));
    assert.equal(changed.status, 200, await changed.clone().text());
    const other = await post(formOf([...seeds, ["strength", "0.5"]]));
    const imageOf = async (response: Response) =>
      ((await response.json()) as { data: { b64_json: string }[] }).data[0]?.b64_json;
    assert.notEqual(await imageOf(changed), await imageOf(other));
    const strengths = collector.spans().flatMap(({ attributes }) => attributes["diffusion.strength"] ?? []);
    assert.deepEqual(strengths, [0.5, 0.5]);
    const stream: readonly Part[] = [
      ["stream", "true"],
      ["partial_images", "3"],
      ["num_inference_steps", "12"],
    ];
    for (const [strength, partials] of [
      ["0.5", 3],
      ["0.1", 1],
    ] as const) {
      const text = await (await post(formOf([...seeds, ...stream, ["strength", strength]]))).text();
      assert.equal(
        text.match(/^event: image_edit\.partial_image$/gm)?.length,
        partials,
        "spread over the steps that run",
      );
    }
    const many = await post(formOf([...seeds, ["n", "10"]], Uint8Array.from(photo)));
    assert.equal(((await many.json()) as { data: object[] }).data.length, 10);
    const wrong = await errorOf(await post(formOf(seeds, Uint8Array.from(Buffer.from("<svg/>")))));
    assert.deepEqual([wrong.status, wrong.param], [400, "image"]);
    const none = await errorOf(await post(formOf([...seeds, ["strength", "0.1"]])));
    assert.deepEqual([none.status, none.param], [400, "strength"]);
  });

  test("a stream's events are those of edits", async (t) => {
    const { post } = await serveScripted(t);
    const stream = formOf([
      ["prompt", prompt],
      ["stream", "True"],
      ["partial_images", "1"],
    ]);
    const text = await (await post(stream)).text();
    assert.deepEqual(
      [...text.matchAll(/^event: (.*)\ndata: \{.*?"type":"(.*?)"/gm)].map(([, ...names]) => names),
      [
        ["image_edit.partial_image", "image_edit.partial_image"],
        ["image_edit.completed", "image_edit.completed"],
      ],
    );
  });

  test("the image may be the one of a list, and its name and media type do not count", async (t) => {
    const { post, asked } = await serveScripted(t);
    for (const name of ["image[]", "image[0]"]) {
      const form = formOf(
        [
          ["prompt", prompt],
          [name, Uint8Array.from(png)],
        ],
        undefined,
      );
      form.delete("image");
      assert.equal((await post(form)).status, 200, name);
      assert.deepEqual(Buffer.from(asked().initImage ?? []), png);
    }
    const boundary = "x";
    const raw = `--x\r\ncontent-disposition: form-data; name=prompt\r\n\r\n${prompt}\r\n--x\r\ncontent-disposition: form-data; name="image"; filename="Bild – 1.txt"\r\ncontent-type: text/plain\r\n\r\nany bytes\r\n--x--\r\n`;
    assert.equal((await post(raw, { "content-type": `multipart/form-data; boundary=${boundary}` })).status, 200);
    assert.equal(Buffer.from(asked().initImage ?? []).toString(), "any bytes");
  });

  test("LoRAs are taken as JSON, as objects of the clients' forms, and as vLLM-Omni's one object", async (t) => {
    const { post, asked } = await serveScripted(t);
    const loras = async (...parts: readonly Part[]) => {
      const response = await post(formOf([["prompt", prompt], ...parts]));
      assert.equal(response.status, 200, await response.text());
      return asked().loras.map(({ name, scale }) => [name, scale]);
    };
    const both = [
      ["pixel", 0.5],
      ["ghibli", -1],
    ];
    const json = JSON.stringify(both.map(([name, scale]) => ({ name, scale })));
    assert.deepEqual(await loras(["loras", json]), both);
    const names: readonly Part[] = [
      ["loras[][name]", "pixel"],
      ["loras[][name]", "ghibli"],
    ];
    assert.deepEqual(await loras(...names, ["loras[][scale]", "0.5"], ["loras[][scale]", "-1"]), both);
    assert.deepEqual(await loras(...names), [
      ["pixel", undefined],
      ["ghibli", undefined],
    ]);
    assert.deepEqual(await loras(["lora[name]", "pixel"], ["lora[scale]", "0.5"]), [["pixel", 0.5]]);
    assert.deepEqual(await loras(["lora", '{"name": "pixel"}']), [["pixel", undefined]]);
  });

  test("bad input is an error that names the parameter", async (t) => {
    const { post, requests } = await serveScripted(t);
    const withPrompt = (...parts: readonly Part[]) => formOf([["prompt", prompt], ...parts]);
    const noImage = formOf([["prompt", prompt]]);
    noImage.delete("image");
    const asText = formOf([["image", "data:image/png;base64,AAAA"]]);
    asText.delete("image");
    asText.append("image", "data:image/png;base64,AAAA");
    const empty = formOf([["prompt", prompt]], new Uint8Array());
    const image = Uint8Array.from(png);
    const cases: readonly (readonly [FormData, string | null, RegExp])[] = [
      [noImage, "image", /^image: is required$/],
      [asText, "image", /^image: must be a file$/],
      [empty, "image", /^image: the file is empty/],
      [withPrompt(["image[]", image]), "image", /^image: must be one file, and there are 2; send a request for each$/],
      [withPrompt(["mask", image]), "mask", /^mask: is not supported/],
      [formOf([]), "prompt", /^prompt: is required$/],
      [withPrompt(["prompt", "twice"]), "prompt", /^prompt: must stand once$/],
      [withPrompt(["n", "many"]), "n", /^n: must be a whole number from 1 to 10$/],
      [withPrompt(["n", "2"], ["stream", "true"]), "n", /^n: must be 1 with stream: true/],
      [withPrompt(["strength", "1.5"]), "strength", /^strength: must be from 0 to 1$/],
      [withPrompt(["strength", "0x1"]), "strength", /^strength: must be a number from 0 to 1$/],
      [withPrompt(["stream", "yes"]), "stream", /^stream: must be true or false$/],
      [withPrompt(["loras", "pixel"]), "loras", /^loras: is not valid JSON$/],
      [
        withPrompt(["loras", '[{"name": "a"}, {"name": "b", "scale": 11}]']),
        "loras",
        /^loras\[1\]\.scale: .* -10 to 10$/,
      ],
      [withPrompt(["loras", '[{"path": "/etc"}]']), "loras", /^loras\[0\]\.name: must have a name$/],
      [withPrompt(["loras[][name]", "a"], ["loras[][name]", "b"], ["loras[][scale]", "1"]), "loras", /as JSON$/],
      [withPrompt(["loras[]", "[object Object]"]), "loras", /^loras: send them as JSON/],
      [withPrompt(["loras", '[{"name": "unknown"}]']), "loras", /^loras: this model has no LoRA .* are: pixel$/],
      [formOf([["prompt", prompt]], Uint8Array.of(0)), "image", /^image: is no PNG, JPEG or WebP image$/],
    ];
    for (const [form, param, message] of cases) {
      const error = await errorOf(await post(form));
      assert.deepEqual([error.status, error.param, error.code], [400, param, "invalid_value"], String(message));
      assert.match(error.message, message);
    }
    assert.equal(requests.length, 2);
  });

  test("an image of 8 MiB is taken, and a larger one is 413, whatever the limit of RPCs", async (t) => {
    const { post, asked } = await serveScripted(t);
    const limit = requestLimits.maxInitImageBytes;
    const sized = (bytes: number) => formOf([["prompt", prompt]], new Uint8Array(bytes).fill(1));
    assert.equal((await post(sized(limit))).status, 200);
    assert.equal(asked().initImage?.length, limit);
    for (const bytes of [limit + 1, limit + 2 ** 20, 4 * limit]) {
      const error = await errorOf(await post(sized(bytes)));
      assert.deepEqual([error.status, error.param, error.code], [413, "image", "request_too_large"]);
      assert.match(error.message, /^image: the file may have at most 8388608 bytes \(8 MiB\)/);
    }
  });

  test("a body that is no whole form, or has too much besides the image, is 400", async (t) => {
    const { post, requests } = await serveScripted(t);
    const type = { "content-type": "multipart/form-data; boundary=abc" };
    const head = '--abc\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n';
    const file = '--abc\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n';
    const many = (count: number) => `${`${head}a\r\n`.repeat(count)}--abc--\r\n`;
    const cases: readonly (readonly [string, Readonly<Record<string, string>>, RegExp])[] = [
      [many(1), { "content-type": "multipart/form-data" }, /names no boundary/],
      ["", type, /no complete form/],
      ["{}", type, /no complete form/],
      [`${head}cut`, type, /no complete form/],
      [`${file}cut`, type, /no complete form/],
      [`${file}whole\r\n--abc`, type, /no complete form/],
      ["--abc\r\ncontent-disposition: form", type, /no complete form/],
      [many(100_000), type, /more than 64 parts/],
      [`${head}${"x".repeat(70_000)}\r\n--abc--\r\n`, type, /a field, or the head of a part, above 65536 bytes$/],
      [`${head}${"x".repeat(2 ** 20)}\r\n--abc--\r\n`, type, /above 65536 bytes$/],
      [`--abc\r\n${"a: b\r\n".repeat(2 ** 17)}\r\n--abc--\r\n`, type, /above 65536 bytes$/],
      [`${"no form ".repeat(2 ** 17)}${many(1)}`, type, /above 65536 bytes$/],
    ];
    for (const [body, headers, message] of cases) {
      const error = await errorOf(await post(body, headers));
      assert.deepEqual([error.status, error.param, error.code], [400, null, "invalid_form"], String(message));
      assert.match(error.message, message);
    }
    assert.equal(requests.length, 0);
  });

  test("a body of another content type is 415, and another method than POST is 405", async (t) => {
    const { post, url } = await serveScripted(t);
    for (const headers of [
      { "content-type": "application/json" },
      { "content-type": "application/x-www-form-urlencoded" },
    ]) {
      const error = await errorOf(await post("{}", headers));
      assert.deepEqual([error.status, error.code], [415, "unsupported_content_type"]);
      assert.match(error.message, /content-type: multipart\/form-data/);
    }
    assert.equal((await errorOf(await fetch(`${url}/v1/images/edits`))).status, 405);
  });

  test("a form of another origin's page is 403 unless it has a header that needs a preflight", async (t) => {
    const { post, url, requests } = await serveScripted(t);
    const form = () => formOf([["prompt", prompt]]);
    for (const origin of ["https://example.com", url.replace(/\d+$/, "1")]) {
      const error = await errorOf(await post(form(), { origin }));
      assert.deepEqual([error.status, error.code], [403, "permission_denied"], origin);
      assert.match(error.message, /must send the header authorization/);
    }
    // A page without an origin has no access by any header.
    assert.equal((await post(form(), { origin: "null" })).status, 403);
    assert.equal(requests.length, 0);
    for (const headers of [{ origin: url }, { origin: "https://example.com", authorization: "Bearer any" }, {}]) {
      assert.equal((await post(form(), headers)).status, 200);
    }
  });

  test("strength without an image is rejected, and LoRAs are taken, in a generation", async (t) => {
    const { url, asked } = await serveScripted(t);
    const post = (body: object) =>
      fetch(`${url}/v1/images/generations`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt, ...body }),
      });
    const error = await errorOf(await post({ strength: 0.5 }));
    assert.deepEqual([error.status, error.param], [400, "strength"]);
    const options = { loras: [{ name: "pixel" }], lora: { name: "flat", scale: 0.5 }, clip_skip: 2 };
    assert.equal((await post({ ...options, strength: null })).status, 200);
    assert.deepEqual(
      asked().loras.map(({ name, scale }) => [name, scale]),
      [
        ["flat", 0.5],
        ["pixel", undefined],
      ],
    );
    assert.deepEqual([asked().clipSkip, asked().initImage], [2, undefined]);
  });
});
