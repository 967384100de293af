import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTestMesh } from "../../src/testing/testing.js";

describe("LoRAs of a request, through both services", async () => {
  const loras = ["pixel", "ink", ...Array.from({ length: 10 }, (_, i) => `style ${i}`)];
  const mesh = await createTestMesh({ engine: createFakeEngine({ loras }) });
  after(() => mesh.stop());
  const prompt = "a red heart";

  async function rejection(options: Parameters<typeof mesh.pipeline.generate>[0]["options"]): Promise<ConnectError> {
    const error = await mesh.pipeline.generate({ prompt, options }).then(
      () => assert.fail("it is taken"),
      (reason: unknown) => ConnectError.from(reason),
    );
    assert.equal(error.code, Code.InvalidArgument);
    return error;
  }

  it("ListModels and DescribeModel have their names", async () => {
    const { models } = await mesh.pipeline.listModels({});
    assert.deepEqual(models[0]?.loras, loras);
    assert.deepEqual((await mesh.worker.describeModel({})).model?.loras, loras);
  });

  it("they are applied with the scale asked for or the default one; response and span have both", async () => {
    const options = { seed: 1, loras: [{ name: "pixel", scale: 0.8 }, { name: "ink" }] };
    const { image, settings, traceId } = await mesh.pipeline.generate({ prompt, options });
    assert.deepEqual(
      settings?.loras.map(({ name, scale }) => [name, scale]),
      [
        ["pixel", Math.fround(0.8)],
        ["ink", 1],
      ],
    );
    const spans = await mesh.waitForTrace(traceId, 6);
    const diffusion = spans.find(({ name }) => name === "diffusion");
    assert.deepEqual(diffusion?.attributes["diffusion.loras"], ["pixel:0.8", "ink:1"]);
    const plain = await mesh.pipeline.generate({ prompt, options: { seed: 1 } });
    assert.notEqual(image?.url, plain.image?.url);
    assert.deepEqual(plain.settings?.loras, []);
    const off = await mesh.pipeline.generate({ prompt, options: { seed: 1, loras: [{ name: "ink", scale: 0 }] } });
    assert.equal(off.image?.url, plain.image?.url);
  });

  it("request without LoRAs has no attribute of them", async () => {
    const { traceId } = await mesh.pipeline.generate({ prompt });
    const spans = await mesh.waitForTrace(traceId, 6);
    const diffusion = spans.find(({ name }) => name === "diffusion");
    assert.ok(diffusion !== undefined && !("diffusion.loras" in diffusion.attributes));
  });

  it("unknown name is rejected by its place, with ten known names and a count", async () => {
    const error = await rejection({ loras: [{ name: "pixel" }, { name: "/srv/loras/pixel.safetensors" }] });
    assert.equal(
      error.rawMessage,
      "options.loras[1].name: this worker has no LoRA of that name; it has pixel, ink, style 0, style 1, style 2, style 3, style 4, style 5, style 6, style 7 and 2 more",
    );
    const [details] = error.findDetails(ViolationsSchema);
    const elements = details?.violations[0]?.field?.elements.map(({ fieldName, subscript }) => [
      fieldName,
      subscript.value,
    ]);
    assert.deepEqual(elements, [
      ["options", undefined],
      ["loras", 1n],
      ["name", undefined],
    ]);
  });

  it("worker without LoRAs rejects each name", async () => {
    const plain = await createTestMesh();
    try {
      await assert.rejects(plain.pipeline.generate({ prompt, options: { loras: [{ name: "pixel" }] } }), (error) => {
        const { code, rawMessage } = ConnectError.from(error);
        assert.deepEqual([code, rawMessage], [Code.InvalidArgument, "options.loras[0].name: this worker has no LoRAs"]);
        return true;
      });
    } finally {
      await plain.stop();
    }
  });

  const wrong: readonly (readonly [what: string, loras: { name: string; scale?: number }[], message: RegExp])[] = [
    ["nine LoRAs", loras.slice(0, 9).map((name) => ({ name })), /options\.loras/],
    ["one LoRA twice", [{ name: "pixel" }, { name: "pixel", scale: 0.5 }], /each name may stand once/],
    ["a scale of 1e9", [{ name: "pixel", scale: 1e9 }], /options\.loras\[0\]\.scale/],
    ["a scale of NaN", [{ name: "pixel", scale: Number.NaN }], /options\.loras\[0\]\.scale/],
    ["an empty name", [{ name: "" }], /options\.loras\[0\]\.name/],
  ];
  for (const [what, choice, message] of wrong) {
    it(`${what}: INVALID_ARGUMENT that names the field`, async () => {
      assert.match((await rejection({ loras: choice })).message, message);
    });
  }
});
