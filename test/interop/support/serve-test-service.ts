import { setTimeout as wait } from "node:timers/promises";
import { fromJson, type Message } from "@bufbuild/protobuf";
import { ConnectError, type HandlerContext } from "@connectrpc/connect";
import { createApp } from "../../../src/app/app.js";
import { appOptions } from "./app-options.js";
import {
  initialMetadataKey,
  payloadOf,
  payloadSize,
  readMessage,
  type TestFields,
  type TestService,
  trailingMetadataKey,
} from "./test-service.js";

/** Serves `grpc.testing.TestService` as an app, as gRPC's description of its interoperability tests asks. */
export function createTestServiceApp(testing: TestService) {
  const { service, emptyCall, unaryCall, streamingInputCall, streamingOutputCall, fullDuplexCall, halfDuplexCall } =
    testing;

  async function* outputs(request: TestFields, context: HandlerContext): AsyncGenerator<Message> {
    for (const { size, intervalUs } of request.responseParameters) {
      if (intervalUs > 0) {
        await wait(intervalUs / 1_000, undefined, { signal: context.signal });
      }
      yield fromJson(streamingOutputCall.output, { payload: payloadOf(size) });
    }
  }

  return createApp({
    ...appOptions("interop-server"),
    services: [service],
    routes(router) {
      router.rpc(emptyCall, () => fromJson(emptyCall.output, {}));
      router.rpc(unaryCall, (message, context) => {
        const request = readMessage(unaryCall.input, message);
        echoMetadata(context);
        failAsAsked(request);
        return fromJson(unaryCall.output, { payload: payloadOf(request.responseSize) });
      });
      router.rpc(streamingOutputCall, (message, context) =>
        outputs(readMessage(streamingOutputCall.input, message), context),
      );
      router.rpc(streamingInputCall, async (messages) => {
        let sum = 0;
        for await (const message of messages) {
          sum += payloadSize(readMessage(streamingInputCall.input, message));
        }
        return fromJson(streamingInputCall.output, { aggregatedPayloadSize: sum });
      });
      router.rpc(fullDuplexCall, async function* (messages, context) {
        echoMetadata(context);
        for await (const message of messages) {
          const request = readMessage(fullDuplexCall.input, message);
          failAsAsked(request);
          yield* outputs(request, context);
        }
      });
      router.rpc(halfDuplexCall, async function* (messages, context) {
        const requests: TestFields[] = [];
        for await (const message of messages) {
          requests.push(readMessage(halfDuplexCall.input, message));
        }
        for (const request of requests) {
          yield* outputs(request, context);
        }
      });
    },
  });
}

function echoMetadata({ requestHeader, responseHeader, responseTrailer }: HandlerContext): void {
  const initial = requestHeader.get(initialMetadataKey);
  const trailing = requestHeader.get(trailingMetadataKey);
  if (initial !== null) {
    responseHeader.set(initialMetadataKey, initial);
  }
  if (trailing !== null) {
    responseTrailer.set(trailingMetadataKey, trailing);
  }
}

function failAsAsked({ responseStatus }: TestFields): void {
  if (responseStatus !== undefined && responseStatus.code !== 0) {
    throw new ConnectError(responseStatus.message, responseStatus.code);
  }
}
