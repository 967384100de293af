import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import {
  Delivery,
  type GenerationOptionsSchema,
  ImageFormat,
  Scheduler,
} from "../../../src/gen/throughline/v1/image_pb.js";
import { type GenerateRequestSchema, ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { type InferRequestSchema, TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { createValidationInterceptor } from "../../../src/mesh/serve/validation.js";
import { echoRoutes } from "../support/echo-services.js";

const transport = createRouterTransport(echoRoutes(), { router: { interceptors: [createValidationInterceptor()] } });
const pipeline = createClient(ImagePipelineService, transport);
const worker = createClient(TextToImageWorkerService, transport);

/** The text that a request is rejected with; undefined where it is taken. */
async function rejected(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.InvalidArgument, error.message);
    const [details] = error.findDetails(ViolationsSchema);
    assert.ok(details !== undefined && details.violations.length > 0, "a rejection has buf.validate.Violations");
    return error.rawMessage;
  }
}
const generate = (request: MessageInitShape<typeof GenerateRequestSchema>) => rejected(pipeline.generate(request));
const infer = (request: MessageInitShape<typeof InferRequestSchema>) => rejected(worker.infer(request));
const options = (init: MessageInitShape<typeof GenerationOptionsSchema>) => generate({ prompt: "x", options: init });

suite("prompt", () => {
  const heart = "\u{1f496}";
  for (const call of [generate, infer]) {
    test(`prompt has 1 to 2,000 code points (${call.name})`, async () => {
      assert.equal(await call({ prompt: "x" }), undefined);
      assert.equal(await call({ prompt: "x".repeat(2_000) }), undefined);
      assert.equal(await call({ prompt: heart.repeat(2_000) }), undefined);
      assert.equal(await call({ prompt: "" }), "prompt: must be at least 1 characters");
      assert.equal(await call({ prompt: "x".repeat(2_001) }), "prompt: must be at most 2000 characters");
      assert.equal(await call({ prompt: heart.repeat(2_001) }), "prompt: must be at most 2000 characters");
    });
  }

  test("prompt in a stream's request is validated, and the request is required", async () => {
    const first = (request: { request?: { prompt: string } }) =>
      rejected(pipeline.generateStream(request)[Symbol.asyncIterator]().next());
    assert.equal(await first({ request: { prompt: "x" } }), undefined);
    assert.equal(await first({ request: { prompt: "" } }), "request.prompt: must be at least 1 characters");
    assert.equal(await first({}), "request: value is required");
    const stream = worker.inferStream({})[Symbol.asyncIterator]();
    assert.equal(await rejected(stream.next()), "request: value is required");
  });
});

suite("worker_app", () => {
  for (const good of [
    "",
    "local/text-to-image-worker",
    "a/b",
    "A.b_c-1/D.e_f-2",
    "127.0.0.1/x",
    `a/${"b".repeat(126)}`,
  ]) {
    test(`worker_app "${good.slice(0, 40)}" is accepted`, async () => {
      assert.equal(await generate({ prompt: "x", workerApp: good }), undefined);
    });
  }
  const addresses = [
    "localhost:50052",
    "127.0.0.1:50052/x",
    "dns:///host:50052",
    "http://host/x",
    "unix:/tmp/x",
    "//host/x",
    "../../etc",
    "acme/worker/more",
    "acme/",
    "/worker",
    "acme",
    "acme/worker\n",
    "acme /worker",
    "-acme/worker",
    `a/${"b".repeat(127)}`,
  ];
  for (const bad of addresses) {
    test(`worker_app ${JSON.stringify(bad.slice(0, 40))} is rejected without being quoted`, async () => {
      const text = await generate({ prompt: "x", workerApp: bad });
      assert.match(
        text ?? "",
        /^worker_app: (value must be an app id of the form owner\/name|must be at most 128 characters)/,
      );
      assert.ok(!text?.includes(bad));
    });
  }
});

suite("options", () => {
  for (const side of ["width", "height"] as const) {
    test(`options.${side} accepts multiples of 8 from 64 to 2,048`, async () => {
      for (const good of [64, 72, 1_024, 2_048]) {
        assert.equal(await options({ [side]: good }), undefined);
      }
      for (const bad of [0, 56, 63, 65, 68, 2_049, 2_056, 4_294_967_288]) {
        assert.match((await options({ [side]: bad })) ?? "", new RegExp(`^options\\.${side}: `));
      }
    });
  }

  test("options.num_inference_steps accepts 1 to 150", async () => {
    for (const good of [1, 150]) {
      assert.equal(await options({ numInferenceSteps: good }), undefined);
    }
    for (const bad of [0, 151]) {
      assert.match((await options({ numInferenceSteps: bad })) ?? "", /^options\.num_inference_steps: /);
    }
  });

  test("options.guidance_scale accepts 0 to 30 and no NaN", async () => {
    for (const good of [0, -0, 7.5, 30]) {
      assert.equal(await options({ guidanceScale: good }), undefined);
    }
    for (const bad of [-0.001, 30.001, Number.NaN, Infinity, -Infinity]) {
      assert.match((await options({ guidanceScale: bad })) ?? "taken", /^options\.guidance_scale: /, `${bad}`);
    }
  });

  test("options.negative_prompt accepts 0 to 2,000 code points", async () => {
    for (const good of ["", "\u{1f496}".repeat(2_000)]) {
      assert.equal(await options({ negativePrompt: good }), undefined);
    }
    assert.match((await options({ negativePrompt: "x".repeat(2_001) })) ?? "", /^options\.negative_prompt: /);
  });

  test("options.seed accepts all of uint32", async () => {
    for (const good of [0, 4_294_967_295]) {
      assert.equal(await options({ seed: good }), undefined);
    }
  });

  test("options.preview_interval accepts 0 to 150", async () => {
    for (const good of [0, 150]) {
      assert.equal(await options({ previewInterval: good }), undefined);
    }
    assert.match((await options({ previewInterval: 151 })) ?? "", /^options\.preview_interval: /);
  });

  test("options.quality accepts 1 to 100", async () => {
    for (const good of [1, 100]) {
      assert.equal(await options({ quality: good }), undefined);
    }
    for (const bad of [0, 101]) {
      assert.match((await options({ quality: bad })) ?? "", /^options\.quality: /);
    }
  });

  test("enum options accept only values of the contract", async () => {
    assert.equal(
      await options({ scheduler: Scheduler.LCM, format: ImageFormat.WEBP, delivery: Delivery.URL }),
      undefined,
    );
    for (const bad of [{ scheduler: 99 }, { format: 99 }, { delivery: -1 }]) {
      assert.match((await options(bad)) ?? "", /^options\.\w+: value must be one of the defined enum values/);
    }
  });
});

suite("trace_context", () => {
  const carrier = (traceContext: Record<string, string>) => infer({ prompt: "x", traceContext });

  test("trace_context accepts at most 16 pairs", async () => {
    const pairs = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, ""]));
    assert.equal(await carrier(pairs(16)), undefined);
    assert.match((await carrier(pairs(17))) ?? "", /^trace_context: /);
  });

  test("trace_context accepts keys up to 256 bytes and values up to 8,192", async () => {
    assert.equal(await carrier({ ["k".repeat(256)]: "v".repeat(8_192) }), undefined);
    assert.equal(await carrier({ ["é".repeat(128)]: "é".repeat(4_096) }), undefined);
    assert.match((await carrier({ ["k".repeat(257)]: "" })) ?? "", /^trace_context \(key\): /);
    assert.match((await carrier({ ["é".repeat(129)]: "" })) ?? "", /^trace_context \(key\): /);
    assert.match((await carrier({ k: "v".repeat(8_193) })) ?? "", /^trace_context: /);
  });

  test("trace_context with invalid content within the limits is accepted", async () => {
    assert.equal(await carrier({ traceparent: "garbage", TraceState: ",,,=", baggage: "\u0000", "": "" }), undefined);
  });

  test("trace_context errors do not quote the caller's keys", async () => {
    const error = await worker
      .infer({ prompt: "x", traceContext: { CANARY: "v".repeat(9_000) } })
      .catch(ConnectError.from);
    assert.ok(error instanceof ConnectError);
    assert.doesNotMatch(JSON.stringify([error.message, error.findDetails(ViolationsSchema)], bigintAsText), /CANARY/);
  });
});

test("many violations are counted beyond the first 20", async () => {
  const traceContext = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`k${i}`, "v".repeat(8_193)]));
  const error = await worker.infer({ prompt: "", traceContext }).catch(ConnectError.from);
  assert.ok(error instanceof ConnectError);
  assert.match(error.rawMessage, /; and 1999 more$/);
  assert.equal(error.findDetails(ViolationsSchema)[0]?.violations.length, 20);
});

test("rule that cannot be evaluated is INTERNAL and not the caller's fault", async () => {
  const broken = createValidationInterceptor({
    validator: {
      validate: (_, message) => ({ kind: "error", message, error: new RangeError("bad rule"), violations: undefined }),
    },
  });
  const client = createClient(
    ImagePipelineService,
    createRouterTransport(echoRoutes(), { router: { interceptors: [broken] } }),
  );
  await assert.rejects(client.generate({ prompt: "x" }), new ConnectError("internal error", Code.Internal));
});

function bigintAsText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
