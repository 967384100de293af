import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create, createFileRegistry, createRegistry, type DescMethodUnary } from "@bufbuild/protobuf";
import {
  DurationSchema,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_any,
  file_google_protobuf_duration,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import { pino } from "pino";
import { type AppOptions, createApp } from "../../src/app/create-app.js";
import { testTelemetry } from "../support/telemetry.js";

/** A contract whose request and response hold a `google.protobuf.Any`, and a type of its own to put into it. */
const boxes: FileDescriptorProto = create(FileDescriptorProtoSchema, {
  name: "boxes/v1/boxes.proto",
  package: "boxes.v1",
  syntax: "proto3",
  dependency: [file_google_protobuf_any.proto.name],
  messageType: [
    {
      name: "Box",
      field: [
        {
          name: "content",
          number: 1,
          type: Type.MESSAGE,
          typeName: ".google.protobuf.Any",
          label: Label.OPTIONAL,
          jsonName: "content",
        },
      ],
    },
    {
      name: "Text",
      field: [{ name: "words", number: 1, type: Type.STRING, label: Label.OPTIONAL, jsonName: "words" }],
    },
  ],
  service: [{ name: "Boxes", method: [{ name: "Echo", inputType: ".boxes.v1.Box", outputType: ".boxes.v1.Box" }] }],
});

async function serveBoxes(t: TestContext, options: Pick<AppOptions, "registry"> = {}): Promise<string> {
  const file = [file_google_protobuf_any.proto, boxes];
  const service = createFileRegistry(create(FileDescriptorSetSchema, { file })).getService("boxes.v1.Boxes");
  assert.ok(service);
  const echo = service.methods.find((method): method is DescMethodUnary => method.methodKind === "unary");
  assert.ok(echo);
  const running = await createApp({
    name: "boxes",
    services: [service],
    routes: (router) => router.rpc(echo, (request) => request),
    telemetry: testTelemetry(t, "boxes"),
    logger: pino({ level: "silent" }),
    ...options,
  }).serve({ port: 0 });
  t.after(() => running.stop({ graceMs: 0 }));
  return `${running.url}/boxes.v1.Boxes/Echo`;
}

async function post(url: string, content: object) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ content }),
  });
  return { status: response.status, body: (await response.json()) as unknown };
}

const text = { "@type": "type.googleapis.com/boxes.v1.Text", words: "hello" };
const duration = { "@type": "type.googleapis.com/google.protobuf.Duration", value: "1.500s" };

test("app accepts and returns google.protobuf.Any in JSON with the types of its own services", async (t) => {
  const url = await serveBoxes(t);

  assert.deepEqual(await post(url, text), { status: 200, body: { content: text } });
  const { status } = await post(url, duration);
  assert.equal(status, 400, "a type that no file of the services knows");
});

test("registry option sets the types that google.protobuf.Any may contain in JSON", async (t) => {
  const url = await serveBoxes(t, { registry: createRegistry(DurationSchema, file_google_protobuf_duration) });

  assert.deepEqual(await post(url, duration), { status: 200, body: { content: duration } });
  assert.equal((await post(url, text)).status, 400);
});
