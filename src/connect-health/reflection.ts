import {
  create,
  createRegistry,
  type DescFile,
  type DescService,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import {
  type ExtensionRequest,
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../gen/grpc/reflection/v1/reflection_pb.js";
import {
  ServerReflection as ServerReflectionAlpha,
  ServerReflectionRequestSchema as ServerReflectionRequestAlphaSchema,
  ServerReflectionResponseSchema as ServerReflectionResponseAlphaSchema,
} from "../gen/grpc/reflection/v1alpha/reflection_pb.js";

/** Full names of the reflection services: v1 and v1alpha. */
export const reflectionServiceNames: readonly string[] = [ServerReflection.typeName, ServerReflectionAlpha.typeName];

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/**
 * Registers grpc.reflection.v1 and v1alpha for the given services and for reflection itself.
 *
 * `buf curl` and grpcurl then work without the .proto files. Both versions have the same wire format, so v1alpha is converted to v1 and
 * back.
 *
 * @param services all services to list, without reflection.
 */
export function reflectionRoutes(services: readonly DescService[]): (router: ConnectRouter) => void {
  const answer = createAnswer([...services, ServerReflection, ServerReflectionAlpha]);
  const respond = (request: ServerReflectionRequest) =>
    create(ServerReflectionResponseSchema, {
      validHost: request.host,
      originalRequest: request,
      messageResponse: answer(request.messageRequest),
    });
  return (router) => {
    router.service(ServerReflection, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) {
          yield respond(request);
        }
      },
    });
    router.service(ServerReflectionAlpha, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) {
          const bytes = toBinary(ServerReflectionRequestAlphaSchema, request);
          const response = respond(fromBinary(ServerReflectionRequestSchema, bytes));
          yield fromBinary(ServerReflectionResponseAlphaSchema, toBinary(ServerReflectionResponseSchema, response));
        }
      },
    });
  };
}

function createAnswer(
  services: readonly DescService[],
): (request: ServerReflectionRequest["messageRequest"]) => Answer {
  const files = new Map<string, DescFile>();
  for (const service of services) {
    addWithDependencies(files, service.file);
  }
  const registry = createRegistry(...files.values());

  const fileOfSymbol = (symbol: string): DescFile | undefined => {
    const name = symbol.replace(/^\./, "");
    // Look up a method, a field or an enum value by its parent type.
    const found = registry.get(name) ?? registry.get(name.slice(0, Math.max(0, name.lastIndexOf("."))));
    return found?.file;
  };
  const fileOfExtension = ({ containingType, extensionNumber }: ExtensionRequest): DescFile | undefined => {
    const message = registry.getMessage(containingType);
    return message === undefined ? undefined : registry.getExtensionFor(message, extensionNumber)?.file;
  };

  return (request) => {
    switch (request.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: services.map(({ typeName: name }) => ({ name })) } };
      case "fileByFilename":
        return fileAnswer(files.get(request.value));
      case "fileContainingSymbol":
        return fileAnswer(fileOfSymbol(request.value));
      case "fileContainingExtension":
        return fileAnswer(fileOfExtension(request.value));
      case "allExtensionNumbersOfType": {
        const baseTypeName = request.value;
        if (registry.getMessage(baseTypeName) === undefined) {
          return errorAnswer(Code.NotFound, "no such message");
        }
        const extensionNumber = [...registry].flatMap((type) =>
          type.kind === "extension" && type.extendee.typeName === baseTypeName ? [type.number] : [],
        );
        return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } };
      }
      case undefined:
        return errorAnswer(Code.InvalidArgument, "the request has no message_request: set one of its fields");
      default:
        return request satisfies never;
    }
  };
}

function fileAnswer(file: DescFile | undefined): Answer {
  if (file === undefined) {
    return errorAnswer(Code.NotFound, "no such file, symbol or extension");
  }
  // Clients expect the requested file first. Each file precedes its imports.
  const files = [...addWithDependencies(new Map(), file).values()].reverse();
  const fileDescriptorProto = files.map((each) => toBinary(FileDescriptorProtoSchema, each.proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function errorAnswer(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

/** Adds a file after its imports, each once. */
function addWithDependencies(files: Map<string, DescFile>, file: DescFile): Map<string, DescFile> {
  if (files.has(file.proto.name)) {
    return files;
  }
  for (const dependency of file.dependencies) {
    addWithDependencies(files, dependency);
  }
  return files.set(file.proto.name, file);
}
