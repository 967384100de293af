import type { EventEmitter } from "node:events";
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
import { messageEncoding } from "./compressions.js";

/** Limits of a request's body. */
export interface BodyLimits {
  /** Maximum message, in bytes, compressed and decompressed; above: RESOURCE_EXHAUSTED. */
  readonly readMaxBytes: number;
  /** Time limit for the body of a call with one request message, in milliseconds; then DEADLINE_EXCEEDED. */
  readonly bodyTimeoutMs: number;
  /** Shared memory of all bodies, partially received ones and those of running calls. */
  readonly memory: BodyMemory;
}

/** Context key for the error of a body that could not be read. */
export const bodyFailure = createContextKey<unknown>(undefined, { description: "body failure" });

/** Size of an envelope's head, in bytes: one of flags, four of length (big-endian). */
export const envelopeHeadBytes = 5;

/** RESOURCE_EXHAUSTED without RetryInfo, because a retry cannot succeed. */
export function messageTooLarge(maxBytes: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message: `the message is larger than the limit of ${maxBytes} bytes; send less, such as a smaller image`,
  });
}

/**
 * Read the body of a call with one request message. Bytes beyond the limits are discarded.
 *
 * @param enveloped whether the message has an envelope, which announces its length.
 * @param isReset whether the client has reset the stream, see {@link checkEnd}. @default never
 * @param response ends the read when it closes: HTTP/1.1 may report no end of a request that is answered for its headers.
 * @throws ConnectError RESOURCE_EXHAUSTED as soon as the announced size exceeds the limit, or if the shared memory is used up;
 * DEADLINE_EXCEEDED after the time limit; CANCELLED if the client disconnects, or the response closes first.
 */
export function readBody(
  request: Readable,
  { readMaxBytes, bodyTimeoutMs, memory }: BodyLimits,
  enveloped: boolean,
  isReset: () => boolean = () => false,
  response?: Pick<EventEmitter, "on" | "off">,
): Promise<Uint8Array> {
  // One byte above the limit suffices to detect an excess.
  const maxBytes = readMaxBytes + (enveloped ? envelopeHeadBytes : 0);
  return new Promise((resolve, reject) => {
    const buffer = memory.createBuffer(maxBytes);
    const timer = setTimeout(() => fail(deadlineExceeded("waiting for the request's body")), bodyTimeoutMs);
    const stop = () => {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("error", onGone).off("aborted", onGone).off("close", onGone);
      response?.off("close", onAnswered);
      buffer.release();
    };
    const fail = (error: ConnectError) => {
      // The rest is discarded, which frees the connection for the next request.
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
      // A whole message needs no check: the handler sees the disconnect.
      const isIncomplete = enveloped && firstEnvelope(bytes, readMaxBytes) === undefined;
      resolve(isIncomplete ? checkEnd(isReset).then(() => bytes) : bytes);
    };
    const onGone = (cause?: unknown) => fail(canceled(cause));
    const onAnswered = () => fail(canceled());
    // Errors after the end or after a rejection have no receiver.
    request.on("error", () => {});
    if (request.destroyed && !request.readableEnded) {
      return onGone();
    }
    request.on("data", onData).on("end", onEnd).on("error", onGone).on("aborted", onGone).on("close", onGone);
    response?.on("close", onAnswered);
  });
}

/** Bytes of a rejected body that are read at most before the call is answered. */
export const discardMaxBytes = 67_108_864;

/**
 * Wait until the rest of a rejected body has arrived, and discard it.
 *
 * Node's HTTP/2 client drops the headers of a response that comes while 10 MB of its request wait to be sent, and its caller sees INTERNAL. So
 * a message over the size limit is answered after its end.
 *
 * Resolves at the end of the body, after 64 MiB or `timeoutMs`, or if the client disconnects.
 */
export function discardRest(request: Readable, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    let bytes = 0;
    const timer = setTimeout(stop, timeoutMs);
    function stop(): void {
      clearTimeout(timer);
      request.off("data", onData).off("end", stop).off("close", stop);
      resolve();
    }
    function onData(chunk: Uint8Array): void {
      bytes += chunk.byteLength;
      if (bytes > discardMaxBytes) {
        stop();
      }
    }
    if (request.readableEnded || request.destroyed) {
      return stop();
    }
    request.on("data", onData).on("end", stop).on("close", stop);
  });
}

/**
 * Split a body into complete envelopes, in linear time for any chunk size. This applies the shared memory limit to streaming calls too.
 *
 * @param isReset whether the client has reset the stream, see {@link checkEnd}. @default never
 * @param check of each envelope, before it is handed on. @default none
 * @throws ConnectError RESOURCE_EXHAUSTED above the size limit or if the shared memory is used up; INVALID_ARGUMENT if the body ends inside a
 * message; CANCELLED if the client disconnects.
 */
export async function* readEnvelopes(
  request: Readable,
  { readMaxBytes, memory }: Pick<BodyLimits, "readMaxBytes" | "memory">,
  header: Headers,
  isReset: () => boolean = () => false,
  check?: (envelope: Uint8Array) => Promise<void>,
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
        const envelope = encodeEnvelope(next.flags, next.data);
        await check?.(envelope);
        yield envelope;
        buffer.drop(envelopeHeadBytes + next.data.byteLength);
      }
    }
    await checkEnd(isReset);
    if (buffer.bytes().byteLength > 0) {
      throw invalidArgument("the message is incomplete");
    }
  } finally {
    buffer.release();
  }
}

/** Event loop iterations in which a reset is expected after a body's end. It may arrive in a packet of its own. */
const resetIterations = 3;

/**
 * Check that the end of a body is no reset. Node's HTTP/2 clients send END_STREAM just before RST_STREAM, so a cancelled body seems to end.
 *
 * @throws ConnectError CANCELLED
 */
async function checkEnd(isReset: () => boolean): Promise<void> {
  for (let iteration = 0; iteration < resetIterations; iteration++) {
    await new Promise(setImmediate);
    if (isReset()) {
      throw canceled();
    }
  }
}

async function* chunksOf(request: Readable): AsyncGenerator<Uint8Array> {
  try {
    // Destroying the request would also close the connection and the response.
    yield* request.iterator({ destroyOnReturn: false });
  } catch (error) {
    // The only cause is a client that has reset the stream or disconnected.
    throw canceled(error);
  }
}

/**
 * Return the first envelope, with its data as a view; undefined if it is incomplete.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED if it announces more than `maxBytes`.
 */
export function firstEnvelope(bytes: Uint8Array, maxBytes: number): EnvelopedMessage | undefined {
  const end = announcedEnd(bytes, maxBytes);
  return end === undefined || bytes.byteLength < end
    ? undefined
    : { flags: bytes[0] ?? 0, data: bytes.subarray(envelopeHeadBytes, end) };
}

/** @throws ConnectError INTERNAL, per gRPC's compression specification, for a compressed message without a named encoding. */
export function checkEncoding(flags: number, header: Headers): void {
  if ((flags & compressedFlag) !== 0 && (messageEncoding(header) ?? "identity") === "identity") {
    throw internal("the message is compressed, but no encoding is named");
  }
}

/** Return the end of the first envelope; undefined before its length has arrived. */
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

/** Shared memory of one handler's bodies. */
export interface BodyMemory {
  /** Creates an empty buffer for one body. @param mostBytes it grows to no more, as long as no more arrives. @default without limit */
  createBuffer(mostBytes?: number): BodyBuffer;
  /**
   * Counts a received body until its call ends: the message that was read from it, and copies on their way, take as much or more.
   *
   * @returns releases it.
   * @throws ConnectError RESOURCE_EXHAUSTED if running calls hold too much.
   */
  hold(bytes: number): () => void;
}

/** Growing byte queue. */
export interface BodyBuffer {
  /** Appends bytes. @throws ConnectError RESOURCE_EXHAUSTED if the shared memory is used up. */
  append(chunk: Uint8Array): void;
  /** Returns the remaining bytes, valid until the next call of `append`. */
  bytes(): Uint8Array;
  /** Removes bytes from the front. */
  drop(length: number): void;
  /** Releases the memory. Arrays that `bytes` returned stay valid. */
  release(): void;
}

/** Uncounted first bytes of each body, so that large, never-ending bodies cannot block small requests. */
const uncountedBytes = 16_384;

const retryDelayMs = 1_000;

const countedBytes = (bytes: number) => Math.max(0, bytes - uncountedBytes);

/** RESOURCE_EXHAUSTED with RetryInfo. @param doing what the server does with the requests. */
function tooManyLarge(doing: string): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message: `the server is ${doing} too many large requests; try again later`,
    details: [retryInfo(retryDelayMs)],
  });
}

/**
 * Create the shared memory.
 *
 * @param maxBytes limit for all partially received bodies together.
 * @param maxHeldBytes limit for the bodies of all running calls together. @default without limit
 */
export function createBodyMemory(maxBytes: number, maxHeldBytes = Number.POSITIVE_INFINITY): BodyMemory {
  let usedBytes = 0;
  let heldBytes = 0;

  function createBuffer(mostBytes = Number.POSITIVE_INFINITY): BodyBuffer {
    let buffer = Buffer.alloc(0);
    let start = 0;
    let end = 0;

    function reserve(capacity: number): void {
      const used = usedBytes + countedBytes(capacity) - countedBytes(buffer.byteLength);
      if (used > maxBytes && used > usedBytes) {
        throw tooManyLarge("receiving");
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
          reserve(
            needed > buffer.byteLength
              ? Math.max(needed, Math.min(2 * buffer.byteLength, mostBytes))
              : buffer.byteLength,
          );
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

  function hold(bytes: number): () => void {
    const counted = countedBytes(bytes);
    if (counted > 0 && heldBytes + counted > maxHeldBytes) {
      throw tooManyLarge("handling");
    }
    heldBytes += counted;
    let isHeld = true;
    return () => {
      heldBytes -= isHeld ? counted : 0;
      isHeld = false;
    };
  }

  return { createBuffer, hold };
}
