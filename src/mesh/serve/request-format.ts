import type { DescMethod } from "@bufbuild/protobuf";
import {
  parseContentType as parseConnect,
  parseTimeout as parseConnectTimeout,
} from "@connectrpc/connect/protocol-connect";
import { parseContentType as parseGrpc, parseTimeout as parseGrpcTimeout } from "@connectrpc/connect/protocol-grpc";
import { parseContentType as parseGrpcWeb } from "@connectrpc/connect/protocol-grpc-web";

/** How a request carries its messages. */
export interface RequestFormat {
  /** Protobuf binary, else JSON. */
  readonly binary: boolean;
  /** Each message stands behind a five-byte prefix: gRPC, gRPC-Web and Connect's streaming calls. */
  readonly enveloped: boolean;
  /** Header that names the compression. */
  readonly encodingHeader: string;
  /** Header of the response that names the compressions taken. */
  readonly acceptHeader: string;
  readonly timeoutHeader: string;
  /** The time limit in a timeout header, in milliseconds; undefined where it is not valid. */
  readonly parseTimeout: (value: string) => number | undefined;
}

const connectTimeout = {
  timeoutHeader: "connect-timeout-ms",
  parseTimeout: (value: string) => parseConnectTimeout(value, Number.MAX_SAFE_INTEGER).timeoutMs,
};
const grpc = {
  enveloped: true,
  encodingHeader: "grpc-encoding",
  acceptHeader: "grpc-accept-encoding",
  timeoutHeader: "grpc-timeout",
  parseTimeout: (value: string) => parseGrpcTimeout(value, Number.MAX_SAFE_INTEGER).timeoutMs,
};

/** Reads the content type. Undefined where it names no protocol for this kind of method: Connect answers 415 to those. */
export function requestFormat(method: DescMethod, contentType: string | null): RequestFormat | undefined {
  const grpcType = parseGrpc(contentType) ?? parseGrpcWeb(contentType);
  if (grpcType !== undefined) {
    // `application/grpc-web-text` is not served.
    return "text" in grpcType && grpcType.text === true ? undefined : { binary: grpcType.binary, ...grpc };
  }
  const connectType = parseConnect(contentType);
  if (connectType === undefined || connectType.stream !== (method.methodKind !== "unary")) {
    return undefined;
  }
  const { binary, stream } = connectType;
  return stream
    ? {
        binary,
        enveloped: true,
        encodingHeader: "connect-content-encoding",
        acceptHeader: "connect-accept-encoding",
        ...connectTimeout,
      }
    : {
        binary,
        enveloped: false,
        encodingHeader: "content-encoding",
        acceptHeader: "accept-encoding",
        ...connectTimeout,
      };
}
