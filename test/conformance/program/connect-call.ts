import { type CallOptions, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createWritableIterable } from "@connectrpc/connect/protocol";
import { isFullDuplex, observeCall, requestOf, requestsOf } from "./call.js";
import {
  type BidiStreamRequest,
  BidiStreamRequestSchema,
  type ClientCompatRequest,
  type ClientResponseResult,
  ClientStreamRequestSchema,
  ConformanceService,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  UnaryRequestSchema,
  UnimplementedRequestSchema,
} from "./messages.js";
import { appendFields, delay, errorSeen, fieldsOf } from "./translate.js";

/** Makes the call of a case with Connect's typed client over a transport. */
export async function callWithConnect(
  transport: Transport,
  request: ClientCompatRequest,
): Promise<ClientResponseResult> {
  const abort = new AbortController();
  const observed = observeCall(request, () => abort.abort());
  const { result } = observed;
  const options: CallOptions = {
    headers: appendFields(new Headers(), request.requestHeaders),
    signal: abort.signal,
    ...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
    onHeader(headers) {
      result.responseHeaders = fieldsOf(headers);
    },
    onTrailer(trailers) {
      result.responseTrailers = fieldsOf(trailers);
    },
  };
  try {
    await make(transport, request, options, observed);
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    result.error = errorSeen(error);
    // An error's metadata are headers and trailers in one.
    const fields = fieldsOf(error.metadata);
    result.responseTrailers = fields;
    if (result.responseHeaders.length === 0) {
      result.responseHeaders = fields;
    }
  }
  return result;
}

async function make(
  transport: Transport,
  request: ClientCompatRequest,
  options: CallOptions,
  observed: ReturnType<typeof observeCall>,
): Promise<void> {
  const client = createClient(ConformanceService, transport);
  const { method } = ConformanceService;
  switch (request.method) {
    case method.unary.name:
    case method.idempotentUnary.name: {
      await delay(request.requestDelayMs);
      const response =
        request.method === method.unary.name
          ? client.unary(requestOf(UnaryRequestSchema, request), options)
          : client.idempotentUnary(requestOf(IdempotentUnaryRequestSchema, request), options);
      observed.closedSend();
      return observed.received((await response).payload);
    }
    case method.unimplemented.name:
      return void (await client.unimplemented(requestOf(UnimplementedRequestSchema, request), options));
    case method.serverStream.name: {
      await delay(request.requestDelayMs);
      const responses = client.serverStream(requestOf(ServerStreamRequestSchema, request), options);
      observed.closedSend();
      for await (const { payload } of responses) {
        observed.received(payload);
      }
      return;
    }
    case method.clientStream.name: {
      async function* requests() {
        for (const message of requestsOf(ClientStreamRequestSchema, request)) {
          await delay(request.requestDelayMs);
          yield message;
        }
        observed.beforeCloseSend();
        observed.closedSend();
      }
      return observed.received((await client.clientStream(requests(), options)).payload);
    }
    case method.bidiStream.name: {
      const requests = createWritableIterable<BidiStreamRequest>();
      const responses = client.bidiStream(requests, options)[Symbol.asyncIterator]();
      // Read ahead: a call that fails while its requests are still being written rejects here, and is otherwise unhandled.
      const read = () => {
        const reading = responses.next();
        reading.catch(() => {});
        return reading;
      };
      let upcoming = read();
      const next = async () => {
        const { done, value } = await upcoming;
        if (done !== true) {
          observed.received(value.payload);
          upcoming = read();
        }
        return done !== true;
      };
      for (const message of requestsOf(BidiStreamRequestSchema, request)) {
        await delay(request.requestDelayMs);
        await requests.write(message);
        if (isFullDuplex(request)) {
          await next();
        }
      }
      observed.beforeCloseSend();
      requests.close();
      observed.closedSend();
      while (await next()) {
        // Each response is recorded as it comes.
      }
      return;
    }
    default:
      throw new Error(`the case names an unknown method: ${request.method}`);
  }
}
