import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import sharp from "sharp";
import { UpscalerService } from "../../examples/upscaler/src/gen/upscaler/v1/upscaler_pb.js";
import { createUpscalerApp } from "../../examples/upscaler/src/upscaler-app.js";
import { createTestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { dumpUpscaled, upscaledTrace } from "./upscaled-trace.js";

const appId = "local/upscaler";

async function meshFor(t: TestContext, options: TestMeshOptions = {}) {
  const mesh = await createTestMesh({ apps: { [appId]: createUpscalerApp }, trustTraceparent: true, ...options });
  t.after(() => mesh.stop());
  return { mesh, upscaler: mesh.app(appId, UpscalerService) };
}

const picture = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: "#c02040" } });

for (const wire of ["memory", "port"] as const) {
  test(`a prompt is painted by the pipeline and enlarged, and all of it is one trace (${wire})`, async (t) => {
    const { mesh, upscaler } = await meshFor(t, { wire });
    const { image, width, height, traceId } = await upscaler.upscale({
      source: { case: "prompt", value: "a red heart" },
      factor: 3,
    });
    assert.deepEqual([width, height], [192, 192]);
    assert.equal((await sharp(image).metadata()).width, 192);
    const spans = await mesh.waitForTrace(traceId, 9);
    assert.equal(dumpUpscaled(spans), upscaledTrace(wire));
  });
}

test("a picture of the caller's own is enlarged, as bytes or as a data: URI", async (t) => {
  const { upscaler } = await meshFor(t);
  const webp = await picture(20, 10).webp().toBuffer();
  const url = `data:image/webp;base64,${webp.toString("base64")}`;
  for (const source of [
    { case: "image", value: webp },
    { case: "url", value: url },
  ] as const) {
    const { width, height, image } = await upscaler.upscale({ source, factor: 2 });
    assert.deepEqual([width, height], [40, 20]);
    assert.equal((await sharp(image).metadata()).format, "png");
  }
});

test("what is no such picture is refused with INVALID_ARGUMENT", async (t) => {
  const { upscaler } = await meshFor(t);
  const small = await picture(1, 1).png().toBuffer();
  const refused = [
    { source: { case: "image", value: Buffer.from("no picture") }, factor: 2 },
    {
      source: { case: "image", value: Buffer.from("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>") },
      factor: 2,
    },
    { source: { case: "image", value: await picture(2049, 2049).png().toBuffer() }, factor: 2 },
    { source: { case: "url", value: "http://127.0.0.1/a.png" }, factor: 2 },
    { source: { case: "url", value: "data:image/svg+xml;base64,AAAA" }, factor: 2 },
    { source: { case: "image", value: small }, factor: 5 },
    { source: { case: "prompt", value: " \n " }, factor: 2 },
    { factor: 2 },
  ] as const;
  for (const request of refused) {
    await assert.rejects(upscaler.upscale(request), (error) => {
      assert.equal(ConnectError.from(error).code, Code.InvalidArgument, JSON.stringify(request).slice(0, 80));
      return true;
    });
  }
});
