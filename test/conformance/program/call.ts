import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  type ClientCompatRequest,
  type ClientResponseResult,
  ClientResponseResultSchema,
  type ConformancePayload,
  ConformancePayloadSchema,
  StreamType,
} from "./messages.js";

/** Makes the one call that a case asks for. Resolves with what was seen of it, errors of the call included. */
export type MakeCall = (request: ClientCompatRequest) => Promise<ClientResponseResult>;

/** The request messages of a call. */
export function requestsOf<Desc extends DescMessage>(schema: Desc, request: ClientCompatRequest): MessageShape<Desc>[] {
  return request.requestMessages.map((any) => {
    const message = anyUnpack(any, schema);
    if (message === undefined) {
      throw new Error(`${any.typeUrl} is not ${schema.typeName}`);
    }
    return message;
  });
}

/** The request message of a call that has one. */
export function requestOf<Desc extends DescMessage>(schema: Desc, request: ClientCompatRequest): MessageShape<Desc> {
  const [message, ...more] = requestsOf(schema, request);
  if (message === undefined || more.length > 0) {
    throw new Error(`the case has ${request.requestMessages.length} request messages`);
  }
  return message;
}

/** Whether each request waits for a response to the one before it. */
export function isFullDuplex({ streamType }: ClientCompatRequest): boolean {
  return streamType === StreamType.FULL_DUPLEX_BIDI_STREAM;
}

/** What a call has come to so far, and when it has to be cancelled. */
export function observeCall({ cancel: plan }: ClientCompatRequest, cancel: () => void) {
  const result = create(ClientResponseResultSchema);
  const timing = plan?.cancelTiming;
  return {
    result,
    /** To be called with each response. */
    received(payload: ConformancePayload | undefined): void {
      result.payloads.push(payload ?? create(ConformancePayloadSchema));
      if (timing?.case === "afterNumResponses" && timing.value === result.payloads.length) {
        cancel();
      }
    },
    /** To be called before the sending side is closed. */
    beforeCloseSend(): void {
      if (timing?.case === "beforeCloseSend") {
        cancel();
      }
    },
    /** To be called when the sending side is closed, which for one request message is as soon as the call is made. */
    closedSend(): void {
      if (timing?.case === "afterCloseSendMs") {
        setTimeout(cancel, timing.value);
      } else if (plan !== undefined && timing?.case === undefined) {
        cancel();
      }
    },
  };
}
