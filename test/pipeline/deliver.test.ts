import assert from "node:assert/strict";
import test from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Delivery, GenerationOptionsSchema, ImageSchema } from "../../src/gen/throughline/v1/image_pb.js";
import type { ImageDelivery } from "../../src/image/delivery.js";
import { deliveryOf } from "../../src/image/delivery.js";
import { deliver } from "../../src/pipeline/generate.js";

const given = (image: MessageInitShape<typeof ImageSchema>, delivery: ImageDelivery = "data-uri") =>
  deliver(create(ImageSchema, image), delivery);
const bytes = Uint8Array.of(0x89, 0x50, 0x4e, 0x47);
const uri = "data:image/png;base64,iVBORw==";

for (const image of [
  ...[
    "",
    "javascript:alert(1)",
    "data:text/html;base64,PGI+",
    "data:image/svg+xml;base64,PGI+",
    "data:image/png;base64,",
    "file:///x.png",
    "/x.png",
    "http://",
  ].map((url) => ({ url })),
  { data: bytes, contentType: "image/svg+xml" },
  { data: bytes, contentType: "" },
]) {
  test(`worker image ${JSON.stringify(image)} is rejected as INTERNAL`, async () => {
    await assert.rejects(given(image), (error) => {
      assert.ok(error instanceof ConnectError);
      assert.deepEqual([error.code, error.rawMessage], [Code.Internal, "the worker returned no image"]);
      return true;
    });
  });
}

for (const url of ["http://127.0.0.1:1/x.png", "https://host/x", "data:image/png;base64,iVBORw0KGgo="]) {
  test(`worker image ${url} is accepted`, async () => assert.equal((await given({ url })).url, url));
}

test("image is delivered as requested, whether the worker sent bytes or a data: URI", async () => {
  const kept: Uint8Array[] = [];
  const store = {
    async put(image: { readonly bytes: Uint8Array }) {
      kept.push(image.bytes);
      return "x.png";
    },
    get: async () => undefined,
  };
  const target = { store, baseUrl: "http://here/" };
  for (const image of [
    { data: bytes, contentType: "image/png", width: 8, height: 16 },
    { url: uri, width: 8, height: 16 },
  ]) {
    const inline = await given(image, "inline");
    assert.deepEqual([inline.url, Buffer.from(inline.data)], ["", Buffer.from(bytes)]);
    const inUri = await given(image, "data-uri");
    assert.deepEqual([inUri.url, inUri.data.length], [uri, 0]);
    const stored = await given(image, target);
    assert.deepEqual([stored.url, stored.data.length, stored.fileName], ["http://here/images/x.png", 0, "x.png"]);
    for (const { contentType, fileSize, width, height } of [inline, inUri, stored]) {
      assert.deepEqual([contentType, fileSize, width, height], ["image/png", 4, 8, 16]);
    }
  }
  assert.deepEqual(
    kept.map((each) => Buffer.from(each)),
    [Buffer.from(bytes), Buffer.from(bytes)],
  );
});

test("delivery follows the options, and a URL becomes a data: URI without a store", () => {
  const target = { store: { put: async () => "", get: async () => undefined }, baseUrl: "" };
  const of = (delivery: Delivery, store?: typeof target) =>
    deliveryOf(create(GenerationOptionsSchema, { delivery }), store);
  assert.deepEqual(
    [Delivery.UNSPECIFIED, Delivery.URL, Delivery.DATA_URI, Delivery.INLINE].map((each) => of(each)),
    ["data-uri", "data-uri", "data-uri", "inline"],
  );
  assert.deepEqual(
    [Delivery.UNSPECIFIED, Delivery.URL, Delivery.DATA_URI, Delivery.INLINE].map((each) => of(each, target)),
    [target, target, "data-uri", "inline"],
  );
  assert.equal(deliveryOf(undefined, target), target);
});
