import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { Code } from "@connectrpc/connect";
import { jsonExcess, maxJsonDepth, maxJsonValues } from "../../../src/mesh/serve/json-shape.js";
import { errorOf } from "../support/error-of.js";
import { envelope, http1 } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const excess = (json: string) => jsonExcess(Buffer.from(json));
const nested = (depth: number) => `${"[".repeat(depth)}1${"]".repeat(depth)}`;
const tooDeep = "the JSON is nested deeper than the limit of 100";
const tooMany = "the JSON has more values than the limit of 100000";

suite("shape of JSON", () => {
  test("depth counts objects and arrays, and ends with them", () => {
    assert.equal(excess(nested(maxJsonDepth)), undefined);
    assert.equal(excess(nested(maxJsonDepth + 1)), tooDeep);
    assert.equal(excess('{"a":'.repeat(maxJsonDepth + 1)), tooDeep);
    assert.equal(excess(`[${Array.from({ length: 1_000 }, () => nested(50)).join(",")}]`), undefined);
  });

  test("values are members and elements", () => {
    // The array is a value itself, and so is the text.
    assert.equal(excess(`[${"1,".repeat(maxJsonValues - 2)}1]`), undefined);
    assert.equal(excess(`[${"1,".repeat(maxJsonValues)}1]`), tooMany);
    assert.equal(excess(`[${"{},".repeat(maxJsonValues)}1]`), tooMany);
    assert.equal(excess(`{${'"a":1,'.repeat(maxJsonValues)}"a":1}`), tooMany);
    assert.equal(excess('"'.repeat(8 * maxJsonValues)), tooMany);
  });

  test("brackets and commas in strings do not count, whatever their escapes", () => {
    for (const text of [
      "[".repeat(1_000),
      ",".repeat(200_000),
      `${'\\"['.repeat(500)}`,
      "\\\\\\\\",
      `${"\\".repeat(1_001)}"[`,
    ]) {
      const json = JSON.stringify({ prompt: text, other: [text] });
      assert.equal(excess(json), undefined);
      assert.equal(excess(`${json.slice(0, -1)},"deep":${nested(maxJsonDepth)}}`), tooDeep);
    }
  });

  test("malformed JSON is left to the parser", () => {
    for (const json of ["", '"', '"\\', "{", "]]]]", "[}", '{"a', "\0\xff"]) {
      assert.equal(excess(json), undefined);
    }
  });
});

const message = (value: string) => `{"prompt":"x","options":${value}}`;
const unary = "/throughline.v1.ImagePipelineService/Generate";
const stream = "/throughline.v1.ImagePipelineService/GenerateStream";
const protocols: readonly [type: string, path: string, wrap: (json: string) => Buffer, encoding?: string][] = [
  ["application/json", unary, Buffer.from],
  ["application/json; charset=utf-8", unary, Buffer.from],
  ["application/json", unary, gzipSync, "content-encoding: gzip"],
  ["application/json", unary, brotliCompressSync, "content-encoding: br"],
  ["application/connect+json", stream, (json) => envelope(`{"request":${json}}`)],
  [
    "application/connect+json",
    stream,
    (json) => envelope(gzipSync(`{"request":${json}}`), 1),
    "connect-content-encoding: gzip",
  ],
  ["application/grpc+json", unary, (json) => envelope(json)],
  ["application/grpc+json", stream, (json) => envelope(`{"request":${json}}`)],
  ["application/grpc-web+json", unary, (json) => envelope(gzipSync(json), 1), "grpc-encoding: gzip"],
];
suite("JSON over a limit of its shape is INVALID_ARGUMENT before it is parsed", () => {
  for (const [type, path, wrap, encoding] of protocols) {
    test(`${type}, ${path}, ${encoding ?? "not compressed"}`, async (t) => {
      const { url } = await serveEcho(t, { readMaxBytes: 12_582_912, ignoreUnknownFields: true });
      const [name, value] = encoding?.split(": ") ?? [];
      const headers = { "content-type": type, ...(name !== undefined && value !== undefined && { [name]: value }) };
      const post = async (json: string) => errorOf(await http1(url, path, { headers, body: wrap(json) }));
      for (const [json, expected] of [
        ["[".repeat(10_000_000), tooDeep],
        [message(nested(1_000)), tooDeep],
        [message(`[${"{},".repeat(3_000_000)}1]`), tooMany],
        [message(`{${'"a":[],'.repeat(1_000_000)}"a":1}`), tooMany],
      ] as const) {
        const { code, rawMessage } = await post(json);
        assert.deepEqual([code, rawMessage], [Code.InvalidArgument, expected]);
      }
    });
  }
});

type ForeignFields = readonly [type: string, path: string, body: Buffer, headers: Readonly<Record<string, string>>];
const foreignFields: readonly ForeignFields[] = [
  ["application/json", unary, Buffer.from(message(nested(1_000))), { "grpc-encoding": "gzip" }],
  ["application/json", unary, Buffer.from(message(nested(1_000))), { "connect-content-encoding": "br" }],
  ["application/json", unary, Buffer.from(message(nested(1_000))), { "content-encoding": "identity" }],
  [
    "application/connect+json",
    stream,
    envelope(gzipSync(`{"request":${message(nested(1_000))}}`), 1),
    { "connect-content-encoding": "gzip", "content-encoding": "identity", "grpc-encoding": "identity" },
  ],
  ...["application/grpc+json", "application/grpc-web+json"].map(
    (type) =>
      [
        type,
        unary,
        envelope(gzipSync(message(nested(1_000))), 1),
        { "grpc-encoding": "gzip", "content-encoding": "identity", "connect-content-encoding": "br" },
      ] as const,
  ),
];
suite("no encoding that the parser ignores hides a message's shape", () => {
  for (const [type, path, body, encodings] of foreignFields) {
    test(`${type}, ${JSON.stringify(encodings)}`, async (t) => {
      const { url } = await serveEcho(t, { ignoreUnknownFields: true });
      const headers = { "content-type": type, ...encodings };
      const { code, rawMessage } = errorOf(await http1(url, path, { headers, body }));
      assert.deepEqual([code, rawMessage], [Code.InvalidArgument, tooDeep]);
    });
  }
});

test("large image in JSON is no excess", async (t) => {
  const { url } = await serveEcho(t, { readMaxBytes: 12_582_912 });
  const image = Buffer.alloc(8_000_000, 7).toString("base64");
  const body = JSON.stringify({ prompt: "x", options: { init_image: image } });
  const response = await http1(url, unary, { headers: { "content-type": "application/json" }, body });
  assert.equal(response.status, 200, response.text);
});
