import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  ConformancePayload_RequestInfoSchema,
  ConformanceService,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  type StreamResponseDefinition,
  UnaryRequestSchema,
  type UnaryResponseDefinition,
} from "./messages.js";
import { appendFields, delay, errorWanted, fieldsOf } from "./translate.js";

/** The suite's service: each request defines its response, and the response reports the request. */
export function conformanceRoutes(router: ConnectRouter): void {
  router.service(ConformanceService, {
    unary: (request, context) => answer(request.responseDefinition, [anyPack(UnaryRequestSchema, request)], context),
    idempotentUnary: (request, context) =>
      answer(request.responseDefinition, [anyPack(IdempotentUnaryRequestSchema, request)], context),
    async clientStream(requests, context) {
      const read = await readAll(ClientStreamRequestSchema, requests);
      return answer(read.first?.responseDefinition, read.packed, context);
    },
    async *serverStream(request, context) {
      announce(request.responseDefinition, context);
      yield* answers(request.responseDefinition, 0, [anyPack(ServerStreamRequestSchema, request)], context);
    },
    async *bidiStream(requests, context) {
      let definition: StreamResponseDefinition | undefined;
      let fullDuplex: boolean | undefined;
      let sent = 0;
      let unanswered: Any[] = [];
      for await (const request of requests) {
        if (fullDuplex === undefined) {
          fullDuplex = request.fullDuplex;
          definition = request.responseDefinition;
          announce(definition, context);
        }
        unanswered.push(anyPack(BidiStreamRequestSchema, request));
        if (!fullDuplex) {
          continue;
        }
        const data = definition?.responseData[sent];
        if (definition === undefined || data === undefined) {
          break;
        }
        await delay(definition.responseDelayMs);
        const requestInfo = sent === 0 ? seen(unanswered, context) : requestsSeen(unanswered);
        yield { payload: { data, requestInfo } };
        sent++;
        unanswered = [];
      }
      yield* answers(definition, sent, unanswered, context);
    },
  });
}

/** The answer to a call with one response. */
async function answer(definition: UnaryResponseDefinition | undefined, requests: Any[], context: HandlerContext) {
  announce(definition, context);
  const requestInfo = seen(requests, context);
  await delay(definition?.responseDelayMs ?? 0);
  if (definition?.response.case === "error") {
    throw errorWanted(definition.response.value, [anyPack(ConformancePayload_RequestInfoSchema, requestInfo)]);
  }
  return { payload: { requestInfo, data: definition?.response.value ?? new Uint8Array() } };
}

/** What is left of the responses after the first `sent` ones, and then the error, if one is wanted. */
async function* answers(
  definition: StreamResponseDefinition | undefined,
  sent: number,
  requests: Any[],
  context: HandlerContext,
) {
  const data = definition?.responseData ?? [];
  for (const [index, each] of data.entries()) {
    if (index >= sent) {
      await delay(definition?.responseDelayMs ?? 0);
      yield { payload: { data: each, ...(index === 0 && { requestInfo: seen(requests, context) }) } };
    }
  }
  if (definition?.error !== undefined) {
    const info = anyPack(ConformancePayload_RequestInfoSchema, seen(requests, context));
    throw errorWanted(definition.error, data.length === 0 ? [info] : []);
  }
}

function announce(
  definition: Pick<UnaryResponseDefinition, "responseHeaders" | "responseTrailers"> | undefined,
  { responseHeader, responseTrailer }: HandlerContext,
): void {
  appendFields(responseHeader, definition?.responseHeaders ?? []);
  appendFields(responseTrailer, definition?.responseTrailers ?? []);
}

function seen(requests: Any[], { requestHeader, timeoutMs }: HandlerContext) {
  const remaining = timeoutMs();
  return create(ConformancePayload_RequestInfoSchema, {
    requests,
    requestHeaders: fieldsOf(requestHeader),
    ...(remaining !== undefined && { timeoutMs: BigInt(Math.trunc(remaining)) }),
  });
}

function requestsSeen(requests: Any[]) {
  return create(ConformancePayload_RequestInfoSchema, { requests });
}

async function readAll<Desc extends DescMessage>(schema: Desc, messages: AsyncIterable<MessageShape<Desc>>) {
  let first: MessageShape<Desc> | undefined;
  const packed: Any[] = [];
  for await (const message of messages) {
    first ??= message;
    packed.push(anyPack(schema, message));
  }
  return { first, packed };
}
