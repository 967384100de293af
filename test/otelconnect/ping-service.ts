import { create, createFileRegistry } from "@bufbuild/protobuf";
import { serviceDesc } from "@bufbuild/protobuf/codegenv2";
import {
  FileDescriptorProtoSchema,
  file_google_protobuf_wrappers,
  type StringValueSchema,
} from "@bufbuild/protobuf/wkt";

type Method<Kind extends "unary" | "server_streaming" | "client_streaming" | "bidi_streaming"> = {
  readonly methodKind: Kind;
  readonly input: typeof StringValueSchema;
  readonly output: typeof StringValueSchema;
};

const text = { inputType: ".google.protobuf.StringValue", outputType: ".google.protobuf.StringValue" };

const registry = createFileRegistry(
  create(FileDescriptorProtoSchema, {
    name: "ping.proto",
    package: "test.v1",
    syntax: "proto3",
    dependency: ["google/protobuf/wrappers.proto"],
    service: [
      {
        name: "PingService",
        method: [
          { name: "Unary", ...text },
          { name: "ServerStream", ...text, serverStreaming: true },
          { name: "ClientStream", ...text, clientStreaming: true },
          { name: "BidiStream", ...text, clientStreaming: true, serverStreaming: true },
        ],
      },
    ],
  }),
  (name) => (name === file_google_protobuf_wrappers.proto.name ? file_google_protobuf_wrappers : undefined),
);

function pingFile() {
  const file = registry.getFile("ping.proto");
  if (file === undefined) {
    throw new Error("the descriptor has no file");
  }
  return file;
}

/** A service with one method of each kind, all from text to text. */
export const PingService = serviceDesc<{
  unary: Method<"unary">;
  serverStream: Method<"server_streaming">;
  clientStream: Method<"client_streaming">;
  bidiStream: Method<"bidi_streaming">;
}>(pingFile(), 0);
