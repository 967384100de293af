import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { type DescMethodStreaming, type DescMethodUnary, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import {
  initialMetadataKey,
  payloadOf,
  payloadSize,
  readMessage,
  type TestFields,
  type TestService,
  trailingMetadataKey,
} from "./support/test-service.js";

/** One case of gRPC's interoperability tests, as a client. */
export type TestCase = (transport: Transport, testing: TestService) => Promise<void>;

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly header?: Record<string, string>;
}

const requestSizes = [27_182, 8, 1_828, 45_904];
const responseSizes = [31_415, 9, 2_653, 58_979];
const metadata = { [initialMetadataKey]: "test_initial_metadata_value", [trailingMetadataKey]: "CgsKCwoL" };
const specialMessage = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

/** The cases that need neither TLS nor credentials, by the names that gRPC's own clients know them by. */
export const testCases: Readonly<Record<string, TestCase>> = {
  async empty_unary(transport, { emptyCall }) {
    const { message } = await unary(transport, emptyCall, {});
    assert.deepEqual(Object.keys(message), ["payload", "responseSize", "responseParameters", "aggregatedPayloadSize"]);
  },
  async large_unary(transport, { unaryCall }) {
    const { message } = await unary(transport, unaryCall, { responseSize: 314_159, payload: payloadOf(271_828) });
    assert.equal(payloadSize(message), 314_159);
  },
  async client_streaming(transport, { streamingInputCall }) {
    const call = await stream(transport, streamingInputCall);
    for (const size of requestSizes) {
      call.send({ payload: payloadOf(size) });
    }
    call.end();
    const response = await call.next();
    assert.equal(response?.aggregatedPayloadSize, 74_922);
    assert.equal(await call.next(), undefined);
  },
  async server_streaming(transport, { streamingOutputCall }) {
    const call = await stream(transport, streamingOutputCall);
    call.send({ responseParameters: responseSizes.map((size) => ({ size })) });
    call.end();
    for (const size of responseSizes) {
      assert.equal(sizeOf(await call.next()), size);
    }
    assert.equal(await call.next(), undefined);
  },
  async ping_pong(transport, { fullDuplexCall }) {
    const call = await stream(transport, fullDuplexCall);
    for (const [index, size] of requestSizes.entries()) {
      const wantedSize = responseSizes[index] ?? 0;
      call.send({ responseParameters: [{ size: wantedSize }], payload: payloadOf(size) });
      assert.equal(sizeOf(await call.next()), wantedSize);
    }
    call.end();
    assert.equal(await call.next(), undefined);
  },
  async empty_stream(transport, { fullDuplexCall }) {
    const call = await stream(transport, fullDuplexCall);
    call.end();
    assert.equal(await call.next(), undefined);
  },
  async timeout_on_sleeping_server(transport, { fullDuplexCall }) {
    await failsWith(Code.DeadlineExceeded, undefined, async () => {
      const call = await stream(transport, fullDuplexCall, { timeoutMs: 1 });
      call.send({ payload: payloadOf(27_182) });
      await call.next();
    });
  },
  async cancel_after_begin(transport, { streamingInputCall }) {
    const cancel = new AbortController();
    await failsWith(Code.Canceled, undefined, async () => {
      const call = await stream(transport, streamingInputCall, { signal: cancel.signal });
      cancel.abort();
      await call.next();
    });
  },
  async cancel_after_first_response(transport, { fullDuplexCall }) {
    const cancel = new AbortController();
    const call = await stream(transport, fullDuplexCall, { signal: cancel.signal });
    call.send({ responseParameters: [{ size: 31_415 }], payload: payloadOf(27_182) });
    assert.equal(sizeOf(await call.next()), 31_415);
    cancel.abort();
    await failsWith(Code.Canceled, undefined, () => call.next());
  },
  async status_code_and_message(transport, { unaryCall, fullDuplexCall }) {
    const request = { responseStatus: { code: 2, message: "test status message" } };
    await failsWith(Code.Unknown, "test status message", () => unary(transport, unaryCall, request));
    await failsWith(Code.Unknown, "test status message", async () => {
      const call = await stream(transport, fullDuplexCall);
      call.send(request);
      call.end();
      await call.next();
    });
  },
  async special_status_message(transport, { unaryCall }) {
    const request = { responseStatus: { code: 2, message: specialMessage } };
    await failsWith(Code.Unknown, specialMessage, () => unary(transport, unaryCall, request));
  },
  async custom_metadata(transport, { unaryCall, fullDuplexCall }) {
    const request = { responseSize: 1, payload: payloadOf(1) };
    const { message, header, trailer } = await unary(transport, unaryCall, request, { header: metadata });
    assert.equal(payloadSize(message), 1);
    assert.equal(header.get(initialMetadataKey), metadata[initialMetadataKey]);
    assert.equal(trailer.get(trailingMetadataKey), metadata[trailingMetadataKey]);
    const call = await stream(transport, fullDuplexCall, { header: metadata });
    call.send({ responseParameters: [{ size: 1 }], payload: payloadOf(1) });
    assert.equal(sizeOf(await call.next()), 1);
    call.end();
    assert.equal(await call.next(), undefined);
    const ended = await call.metadata();
    assert.equal(ended.header.get(initialMetadataKey), metadata[initialMetadataKey]);
    assert.equal(ended.trailer.get(trailingMetadataKey), metadata[trailingMetadataKey]);
  },
  async unimplemented_method(transport, { unimplementedCall }) {
    await failsWith(Code.Unimplemented, undefined, () => unary(transport, unimplementedCall, {}));
  },
  async unimplemented_service(transport, { unimplementedServiceCall }) {
    await failsWith(Code.Unimplemented, undefined, () => unary(transport, unimplementedServiceCall, {}));
  },
};

async function unary(transport: Transport, method: DescMethodUnary, request: JsonValue, options: CallOptions = {}) {
  const { signal, timeoutMs, header } = options;
  const message = fromJson(method.input, request);
  const response = await transport.unary(method, signal, timeoutMs, header, message);
  return {
    message: readMessage(method.output, response.message),
    header: response.header,
    trailer: response.trailer,
  };
}

/** Begins a call. The transport may wait for a response before it returns one, so messages are sent meanwhile. */
async function stream(transport: Transport, method: DescMethodStreaming, options: CallOptions = {}) {
  const { signal, timeoutMs, header } = options;
  const requests = new PassThrough({ objectMode: true });
  const response = transport.stream(method, signal, timeoutMs, header, requests);
  // Read by `next`; a failure before that is not unhandled.
  response.catch(() => {});
  let messages:
    | AsyncIterator<Awaited<typeof response>["message"] extends AsyncIterable<infer M> ? M : never>
    | undefined;
  return {
    send: (request: JsonValue) => void requests.write(fromJson(method.input, request)),
    end: () => void requests.end(),
    /** The next message; undefined at the end. */
    async next(): Promise<TestFields | undefined> {
      messages ??= (await response).message[Symbol.asyncIterator]();
      const { done, value } = await messages.next();
      return done === true ? undefined : readMessage(method.output, value);
    },
    metadata: () => response,
  };
}

function sizeOf(message: TestFields | undefined): number | undefined {
  return message === undefined ? undefined : payloadSize(message);
}

async function failsWith(code: Code, message: string | undefined, call: () => Promise<unknown>): Promise<void> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => ConnectError.from(thrown),
  );
  assert.equal(error?.code, code, `${Code[code]} was expected, not ${error ?? "a response"}`);
  if (message !== undefined) {
    assert.equal(error?.rawMessage, message);
  }
}
