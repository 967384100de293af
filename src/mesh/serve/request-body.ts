import type { Readable } from "node:stream";
import { Code, ConnectError, createContextKey } from "@connectrpc/connect";
import { compressedFlag, type EnvelopedMessage, encodeEnvelope } from "@connectrpc/connect/protocol";
import {
  canceled,
  createConnectError,
  deadlineExceeded,
  internal,
  invalidArgument,
  retryInfo,
} from "../errors/errors.js";

/** Limits of a request's body. */
export interface BodyLimits {
  /** Largest message, in bytes, as it comes and decompressed; above it RESOURCE_EXHAUSTED. */
  readonly readMaxBytes: number;
  /** Time for the whole body of a call with one request message to arrive, in milliseconds; above it DEADLINE_EXCEEDED. */
  readonly bodyTimeoutMs: number;
  /** Memory that the bodies of all calls share while they arrive. */
  readonly memory: BodyMemory;
}

/** Context key of a call: why its body could not be read. */
export const bodyFailure = createContextKey<unknown>(undefined, { description: "body failure" });

/** Bytes before an enveloped message: its flags, and its length as four bytes, big-endian. */
export const envelopeHeadBytes = 5;

/** RESOURCE_EXHAUSTED without RetryInfo: a retry does not make a message smaller. */
export function messageTooLarge(maxBytes: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message: `the message is larger than the limit of ${maxBytes} bytes`,
  });
}

/**
 * Reads the whole body of a call with one request message. Bytes beyond the limits stay unread.
 *
 * @param enveloped whether the message stands in an envelope, which announces its length.
 * @throws ConnectError RESOURCE_EXHAUSTED above the size, as soon as it is announced, or where memory is short; DEADLINE_EXCEEDED above
 * the time; CANCELLED where the client disconnects.
 */
export function readBody(
  request: Readable,
  { readMaxBytes, bodyTimeoutMs, memory }: BodyLimits,
  enveloped: boolean,
): Promise<Uint8Array> {
  // One byte more than the limit is enough to see that it is exceeded.
  const maxBytes = readMaxBytes + (enveloped ? envelopeHeadBytes : 0);
  return new Promise((resolve, reject) => {
    const buffer = memory.createBuffer();
    const timer = setTimeout(() => fail(deadlineExceeded("waiting for the request's body")), bodyTimeoutMs);
    const stop = () => {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("error", onGone).off("aborted", onGone).off("close", onGone);
      buffer.release();
    };
    const fail = (error: ConnectError) => {
      // What still arrives is discarded, so that the connection is free for the next request.
      stop();
      reject(error);
    };
    const onData = (chunk: Uint8Array) => {
      try {
        buffer.append(chunk);
        const bytes = buffer.bytes();
        if (bytes.byteLength > maxBytes) {
          throw messageTooLarge(readMaxBytes);
        }
        if (enveloped) {
          announcedEnd(bytes, readMaxBytes);
        }
      } catch (error) {
        fail(ConnectError.from(error));
      }
    };
    const onEnd = () => {
      const bytes = buffer.bytes();
      stop();
      resolve(bytes);
    };
    const onGone = (cause?: unknown) => fail(canceled(cause));
    // A stream that fails after it was read or given up has nobody to tell.
    request.on("error", () => {});
    if (request.destroyed && !request.readableEnded) {
      return onGone();
    }
    request.on("data", onData).on("end", onEnd).on("error", onGone).on("aborted", onGone).on("close", onGone);
  });
}

/**
 * Splits a body into whole messages, each an envelope of its own, in time linear in its bytes, however small the pieces are. Without this,
 * messages of a streaming call would arrive outside the shared memory's limit.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED above the size or where memory is short; INVALID_ARGUMENT where the body ends inside a message;
 * CANCELLED where the client disconnects.
 */
export async function* readEnvelopes(
  request: Readable,
  { readMaxBytes, memory }: Pick<BodyLimits, "readMaxBytes" | "memory">,
  header: Headers,
): AsyncGenerator<Uint8Array> {
  const buffer = memory.createBuffer();
  try {
    for await (const chunk of chunksOf(request)) {
      buffer.append(chunk);
      for (
        let next = firstEnvelope(buffer.bytes(), readMaxBytes);
        next;
        next = firstEnvelope(buffer.bytes(), readMaxBytes)
      ) {
        checkEncoding(next.flags, header);
        yield encodeEnvelope(next.flags, next.data);
        buffer.drop(envelopeHeadBytes + next.data.byteLength);
      }
    }
    if (buffer.bytes().byteLength > 0) {
      throw invalidArgument("the message is incomplete");
    }
  } finally {
    buffer.release();
  }
}

async function* chunksOf(request: Readable): AsyncGenerator<Uint8Array> {
  try {
    // Stopping must not destroy the request: that would take the connection, and the response, with it.
    yield* request.iterator({ destroyOnReturn: false });
  } catch (error) {
    // A request stream fails for no other reason than that the client reset it or disconnected.
    throw canceled(error);
  }
}

/**
 * The envelope that the bytes begin with, its data a view of them; undefined where it is incomplete.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED for one that announces more than `maxBytes`.
 */
export function firstEnvelope(bytes: Uint8Array, maxBytes: number): EnvelopedMessage | undefined {
  const end = announcedEnd(bytes, maxBytes);
  return end === undefined || bytes.byteLength < end
    ? undefined
    : { flags: bytes[0] ?? 0, data: bytes.subarray(envelopeHeadBytes, end) };
}

/** INTERNAL, as gRPC's specification of compression has it, for a message that is compressed in no encoding that is named. */
export function checkEncoding(flags: number, header: Headers): void {
  const encoding = header.get("grpc-encoding") ?? header.get("connect-content-encoding") ?? "identity";
  if ((flags & compressedFlag) !== 0 && encoding === "identity") {
    throw internal("the message is compressed, but no encoding is named");
  }
}

/** Where the first envelope will end; undefined before its length has arrived. */
function announcedEnd(bytes: Uint8Array, maxBytes: number): number | undefined {
  if (bytes.byteLength < envelopeHeadBytes) {
    return undefined;
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, envelopeHeadBytes).getUint32(1);
  if (length > maxBytes) {
    throw messageTooLarge(maxBytes);
  }
  return envelopeHeadBytes + length;
}

/** The memory that all request bodies of one handler share while they arrive. */
export interface BodyMemory {
  /** An empty buffer for one body. */
  createBuffer(): BodyBuffer;
}

/** Bytes in the order in which they came, however small the pieces were. */
export interface BodyBuffer {
  /** Adds bytes at the end. Throws RESOURCE_EXHAUSTED where the shared memory is used up. */
  append(chunk: Uint8Array): void;
  /** What was added and not dropped; valid until the next call of `append`. */
  bytes(): Uint8Array;
  /** Takes bytes off the front. */
  drop(length: number): void;
  /** Gives the memory back. What `bytes` returned stays valid. */
  release(): void;
}

/** Each body's first bytes are not counted, so that large bodies which never end do not keep ordinary requests out. */
const uncountedBytes = 16_384;

const retryDelayMs = 1_000;

/** Makes memory for bodies. @param maxBytes of all of them together. */
export function createBodyMemory(maxBytes: number): BodyMemory {
  let usedBytes = 0;

  function createBuffer(): BodyBuffer {
    let buffer = Buffer.alloc(0);
    let start = 0;
    let end = 0;

    function reserve(capacity: number): void {
      const counted = (bytes: number) => Math.max(0, bytes - uncountedBytes);
      const used = usedBytes + counted(capacity) - counted(buffer.byteLength);
      if (used > maxBytes && used > usedBytes) {
        throw createConnectError({
          code: Code.ResourceExhausted,
          message: "too many large requests are arriving at once",
          details: [retryInfo(retryDelayMs)],
        });
      }
      usedBytes = used;
      const moved = Buffer.allocUnsafeSlow(capacity);
      buffer.copy(moved, 0, start, end);
      [buffer, start, end] = [moved, 0, end - start];
    }

    return {
      append(chunk) {
        if (end + chunk.byteLength > buffer.byteLength) {
          const needed = end - start + chunk.byteLength;
          reserve(needed > buffer.byteLength ? Math.max(needed, 2 * buffer.byteLength) : buffer.byteLength);
        }
        buffer.set(chunk, end);
        end += chunk.byteLength;
      },
      bytes: () => buffer.subarray(start, end),
      drop(length) {
        start += length;
        if (start === end) {
          reserve(0);
        }
      },
      release() {
        start = end;
        reserve(0);
      },
    };
  }

  return { createBuffer };
}
