import {
  createFileRegistry,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import * as z from "zod";
import type { GrpcGo } from "./go-programs.js";
import { runProgram } from "./run-program.js";

/**
 * The services of gRPC's interoperability tests. The descriptors come from grpc-go at run time, so messages have no types here: they are
 * made from JSON, and read as JSON by {@link readMessage}.
 */
export interface TestService {
  readonly service: DescService;
  readonly emptyCall: DescMethodUnary;
  readonly unaryCall: DescMethodUnary;
  readonly streamingOutputCall: DescMethodServerStreaming;
  readonly streamingInputCall: DescMethodClientStreaming;
  readonly fullDuplexCall: DescMethodBiDiStreaming;
  readonly halfDuplexCall: DescMethodBiDiStreaming;
  readonly unimplementedCall: DescMethodUnary;
  /** A method of a service without an implementation. */
  readonly unimplementedServiceCall: DescMethodUnary;
}

/** Metadata that a test service returns as initial metadata. */
export const initialMetadataKey = "x-grpc-test-echo-initial";

/** Metadata that a test service returns as trailing metadata. */
export const trailingMetadataKey = "x-grpc-test-echo-trailing-bin";

/** Loads the descriptors. */
export async function loadTestService({ describe }: GrpcGo): Promise<TestService> {
  const { code, stdout, tail } = await runProgram(describe, []);
  if (code !== 0) {
    throw new Error(`${describe} failed: ${tail}`);
  }
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, stdout));
  const find = (typeName: string): DescService => {
    const service = registry.getService(typeName);
    if (service === undefined) {
      throw new Error(`grpc-go describes no service ${typeName}`);
    }
    return service;
  };
  const service = find("grpc.testing.TestService");
  return {
    service,
    emptyCall: methodOf(service, "emptyCall", "unary"),
    unaryCall: methodOf(service, "unaryCall", "unary"),
    streamingOutputCall: methodOf(service, "streamingOutputCall", "server_streaming"),
    streamingInputCall: methodOf(service, "streamingInputCall", "client_streaming"),
    fullDuplexCall: methodOf(service, "fullDuplexCall", "bidi_streaming"),
    halfDuplexCall: methodOf(service, "halfDuplexCall", "bidi_streaming"),
    unimplementedCall: methodOf(service, "unimplementedCall", "unary"),
    unimplementedServiceCall: methodOf(find("grpc.testing.UnimplementedService"), "unimplementedCall", "unary"),
  };
}

function methodOf<Kind extends DescService["methods"][number]["methodKind"]>(
  service: DescService,
  localName: string,
  kind: Kind,
): Extract<DescService["methods"][number], { methodKind: Kind }> {
  const isOfKind = (
    method: DescService["methods"][number],
  ): method is Extract<DescService["methods"][number], { methodKind: Kind }> => method.methodKind === kind;
  const method = service.method[localName];
  if (method === undefined || !isOfKind(method)) {
    throw new Error(`${service.typeName} has no ${kind} method ${localName}`);
  }
  return method;
}

/** The fields of all messages of `grpc.testing` that the cases use, with their defaults. */
const fields = z.looseObject({
  payload: z.looseObject({ body: z.base64().default("") }).default({ body: "" }),
  responseSize: z.number().default(0),
  responseStatus: z.looseObject({ code: z.number().default(0), message: z.string().default("") }).optional(),
  responseParameters: z
    .array(z.looseObject({ size: z.number().default(0), intervalUs: z.number().default(0) }))
    .default([]),
  aggregatedPayloadSize: z.number().default(0),
});

/** What the cases read of a message. */
export type TestFields = z.output<typeof fields>;

/** Reads a message of `grpc.testing`. */
export function readMessage(schema: DescMessage, message: Message): TestFields {
  return fields.parse(toJson(schema, message));
}

/** Size of a message's payload, in bytes. */
export function payloadSize({ payload }: TestFields): number {
  return Buffer.from(payload.body, "base64").length;
}

/** JSON of a payload of zeros. */
export function payloadOf(size: number): { readonly body: string } {
  return { body: Buffer.alloc(size).toString("base64") };
}
