import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Code, type ContextValues, createContextKey } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { createConnectError } from "../errors/errors.js";
import type { Connections, RunningCall } from "./grpc-connections.js";
import { CallFailure, metadataFromHeaders } from "./grpc-status.js";

/**
 * Context key for gRPC's wait-for-ready: `createContextValues().set(waitForReady, true)`. True: the call waits for a reachable server until
 * its deadline. False, the default: it fails with UNAVAILABLE at once.
 */
export const waitForReady = createContextKey(false, { description: "gRPC wait-for-ready" });

/** Fields of a Connect request that unary and streaming calls need. */
interface ConnectRequest {
  readonly method: DescMethod;
  readonly header: Headers;
  readonly contextValues: ContextValues;
}

/** Path and metadata of a call. */
export interface WireRequest {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly metadata: grpc.Metadata;
}

/** Response of a unary call. */
export interface UnaryAnswer {
  readonly header: grpc.Metadata | undefined;
  readonly trailer: grpc.Metadata;
  readonly message: Buffer;
}

/** A running unary call. */
export interface UnaryCall {
  /** Rejects with a CallFailure. */
  readonly answer: Promise<UnaryAnswer>;
  /** Resets the stream; `answer` rejects with this. */
  cancel(failure: CallFailure): void;
}

/** A running streaming call, of any of the three kinds. */
export interface StreamCall {
  /** Response headers, or undefined if the stream ended with OK without any. Rejects with a CallFailure. */
  readonly header: Promise<grpc.Metadata | undefined>;
  /** Set once the stream has ended with OK. */
  readonly trailer: grpc.Metadata | undefined;
  /** Reads the next message; undefined at the end. Rejects with a CallFailure. One read at a time. */
  read(): Promise<Buffer | undefined>;
  /** Sends a message. Resolves with true when the next may be sent, with false once the call has ended. */
  send(bytes: Uint8Array): Promise<boolean>;
  halfClose(): void;
  /** Resets the stream; pending reads reject with this. */
  cancel(failure: CallFailure): void;
}

/** Convert a Connect request to path and metadata. All attempts share them. */
export function wireRequestOf({ method, header, contextValues }: ConnectRequest): WireRequest {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    metadata: metadataFromHeaders(header, { waitForReady: contextValues.get(waitForReady) }),
  };
}

/** Set `grpc-timeout`, in milliseconds. grpc-js itself gets no deadline, so that the error text is ours. */
export function setTimeoutHeader({ metadata }: WireRequest, timeoutMs: number | undefined): void {
  if (timeoutMs !== undefined) {
    // The value has at most eight digits.
    metadata.set("grpc-timeout", timeoutMs < 100_000_000 ? `${timeoutMs}m` : `${Math.floor(timeoutMs / 1000)}S`);
  }
}

/**
 * @param maxBytes the policies' `messages.maxSendBytes`.
 * @throws CallFailure INTERNAL if the message cannot be encoded, RESOURCE_EXHAUSTED if it is too large.
 */
export function encodeMessage<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
  maxBytes: number,
): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = toBinary(schema, message);
  } catch (cause) {
    throw localFailure(Code.Internal, "the request cannot be encoded", cause);
  }
  if (bytes.byteLength > maxBytes) {
    throw localFailure(
      Code.ResourceExhausted,
      `the request has ${bytes.byteLength} bytes, over the limit of ${maxBytes} (messages.maxSendBytes)`,
    );
  }
  return bytes;
}

/** @throws CallFailure INTERNAL if the message cannot be decoded. */
export function decodeMessage<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes);
  } catch {
    throw localFailure(Code.Internal, "the response cannot be decoded");
  }
}

/** Start a unary call. */
export function startUnary(connections: Connections, { path, metadata }: WireRequest, message: Uint8Array): UnaryCall {
  let call: RunningCall | undefined;
  let fail: (failure: CallFailure) => void = () => {};
  const answer = new Promise<UnaryAnswer>((resolve, reject) => {
    let header: grpc.Metadata | undefined;
    let received: Buffer | undefined;
    fail = reject;
    call = connections.start(path, metadata, {
      onHeader(fields) {
        header = fields;
      },
      onMessage(bytes) {
        if (received === undefined) {
          received = bytes;
          // A second message is a protocol error; only a further read detects it.
          call?.read();
        } else {
          call?.cancel();
          reject(localFailure(Code.Unimplemented, "the server sent more than one response message"));
        }
      },
      onEnd(failure, trailer) {
        if (failure !== undefined) {
          reject(failure);
        } else if (received === undefined) {
          reject(localFailure(Code.Unimplemented, "the server sent no response message"));
        } else {
          resolve({ header, trailer, message: received });
        }
      },
    });
    call.send(message);
    call.halfClose();
    call.read();
  });
  return {
    answer,
    cancel(failure) {
      call?.cancel();
      fail(failure);
    },
  };
}

/** Number of messages buffered ahead of the reader. */
const readAhead = 8;

/** Start a streaming call. */
export function startStream(connections: Connections, { path, metadata }: WireRequest): StreamCall {
  const waiting: Buffer[] = [];
  let end: { readonly failure: CallFailure | undefined } | undefined;
  let trailer: grpc.Metadata | undefined;
  /** The pending read. */
  let reader: { resolve(bytes: Buffer | undefined): void; reject(failure: CallFailure): void } | undefined;
  let onSent = () => {};
  let resolveHeader: (header: grpc.Metadata | undefined) => void = () => {};
  let rejectHeader: (failure: CallFailure) => void = () => {};
  const header = new Promise<grpc.Metadata | undefined>((resolve, reject) => {
    resolveHeader = resolve;
    rejectHeader = reject;
  });
  // A caller that reads messages only gets the failure from `read`.
  header.catch(() => {});

  const finish = (failure: CallFailure | undefined): void => {
    if (end !== undefined) {
      return;
    }
    end = { failure };
    if (failure === undefined) {
      resolveHeader(undefined);
      reader?.resolve(undefined);
    } else {
      rejectHeader(failure);
      reader?.reject(failure);
    }
    reader = undefined;
    onSent();
  };

  const call = connections.start(path, metadata, {
    onHeader: (fields) => resolveHeader(fields),
    onMessage(bytes) {
      if (reader !== undefined) {
        reader.resolve(bytes);
        reader = undefined;
      } else {
        waiting.push(bytes);
      }
      if (waiting.length < readAhead) {
        call.read();
      }
    },
    onEnd(failure, fields) {
      trailer = fields;
      finish(failure);
    },
  });
  call.read();

  return {
    header,
    get trailer() {
      return trailer;
    },
    read() {
      const bytes = waiting.shift();
      if (bytes !== undefined) {
        if (waiting.length === readAhead - 1 && end === undefined) {
          call.read();
        }
        return Promise.resolve(bytes);
      }
      if (end !== undefined) {
        return end.failure === undefined ? Promise.resolve(undefined) : Promise.reject(end.failure);
      }
      return new Promise((resolve, reject) => {
        reader = { resolve, reject };
      });
    },
    send(bytes) {
      return new Promise((resolve) => {
        onSent = () => resolve(end === undefined);
        if (end === undefined) {
          call.send(bytes, onSent);
        } else {
          resolve(false);
        }
      });
    },
    halfClose: () => call.halfClose(),
    cancel(failure) {
      call.cancel();
      waiting.length = 0;
      finish(failure);
    },
  };
}

function localFailure(code: Code, message: string, cause?: unknown): CallFailure {
  return new CallFailure(createConnectError({ code, message, cause }), "local");
}
