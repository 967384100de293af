import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ImageSchema } from "../../src/gen/throughline/v1/image_pb.js";
import { deliver } from "../../src/pipeline/deliver.js";

const given = (url: string) => deliver(create(ImageSchema, { url }), undefined);

for (const url of [
  "",
  "javascript:alert(1)",
  "data:text/html;base64,PGI+",
  "data:image/svg+xml;base64,PGI+",
  "data:image/png;base64,",
  "file:///x.png",
  "/x.png",
  "http://",
]) {
  test(`a worker's picture cannot be ${JSON.stringify(url)}`, async () => {
    await assert.rejects(given(url), (error) => {
      assert.ok(error instanceof ConnectError);
      assert.deepEqual([error.code, error.rawMessage], [Code.Internal, "the worker answered without a picture"]);
      return true;
    });
  });
}

for (const url of ["http://127.0.0.1:1/x.png", "https://host/x", "data:image/png;base64,iVBORw0KGgo="]) {
  test(`a worker's picture can be ${url}`, async () => assert.equal((await given(url)).url, url));
}
