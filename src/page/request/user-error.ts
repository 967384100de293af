import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { roughDuration } from "../shell/format.js";
import { type FieldName, fieldFor } from "./request-form.js";

/** A failure as the page shows it. */
export interface UserError {
  /** What happened. */
  readonly title: string;
  /** What to do about it. */
  readonly advice: string;
  /** The service's own message; empty if it adds nothing. */
  readonly detail: string;
  /** A message for each wrong field of the form. */
  readonly fields: ReadonlyMap<FieldName, string>;
  /** Milliseconds after which the service accepts a retry. */
  readonly retryAfterMs: number | undefined;
  /** Whether the service needs an API key, or another one. */
  readonly needsKey: boolean;
  /** Whether the service could not be reached, or was lost on the way. */
  readonly connectionLost: boolean;
}

/** Describes a failed call. A call that the page cancelled is not a failure. */
export function userErrorOf(error: unknown): UserError {
  const failure = ConnectError.from(error);
  const detail = failure.rawMessage;
  const none = { detail, fields: new Map(), retryAfterMs: undefined, needsKey: false, connectionLost: false } as const;
  if (isConnectionLost(failure)) {
    return { ...none, ...connectionLost, detail: "", connectionLost: true };
  }
  switch (failure.code) {
    case Code.InvalidArgument: {
      const fields = violatedFields(failure);
      const advice =
        fields.size > 0 ? "Correct the marked fields and generate again." : "Change the request and generate again.";
      // The marked fields have the messages.
      return {
        ...none,
        title: "The service does not take this request",
        advice,
        fields,
        detail: fields.size > 0 ? "" : detail,
      };
    }
    case Code.ResourceExhausted: {
      const retryAfterMs = retryAfterOf(failure);
      return retryAfterMs === undefined
        ? {
            ...none,
            title: "The request is over a limit",
            advice: "Make it smaller, or wait a while and generate again.",
          }
        : {
            ...none,
            title: "All workers are busy and their queue is full",
            advice: `Generate again in about ${roughDuration(retryAfterMs)}.`,
            retryAfterMs,
          };
    }
    case Code.Unauthenticated:
      return {
        ...none,
        title: "The service needs a key",
        advice: "Enter the key that you were given for it. It is kept in this tab only.",
        needsKey: true,
      };
    default:
      return { ...none, ...(plainText.get(failure.code) ?? unknownFailure) };
  }
}

/** A call that ended with OK but without an image. */
export const noImage: UserError = {
  title: "The service ended the request without an image",
  advice: "Search its log for the trace id. Generate again; another version of the service may be needed.",
  detail: "",
  fields: new Map(),
  retryAfterMs: undefined,
  needsKey: false,
  connectionLost: false,
};

/** Whether the service could not be reached, or was lost in the middle of an answer. */
export function isConnectionLost({ cause, rawMessage }: ConnectError): boolean {
  // A browser's fetch fails with a TypeError; an answer that was cut off ends without Connect's last envelope.
  return cause instanceof TypeError || /^(?:missing EndStreamResponse|premature end of stream)$/.test(rawMessage);
}

const connectionLost = {
  title: "The service could not be reached",
  advice: "Check that it runs; `throughline dev` starts one.",
};

const unknownFailure = {
  title: "The service failed",
  advice: "Search its log for the trace id. Generate again; another seed or fewer steps may work.",
};

const plainText: ReadonlyMap<Code, { readonly title: string; readonly advice: string }> = new Map([
  [
    Code.Canceled,
    {
      title: "The service ended the request",
      advice: "It is being shut down or restarted. Generate again in a moment.",
    },
  ],
  [
    Code.Unavailable,
    {
      title: "No worker can take the request now",
      advice: "A worker is starting, restarting or down. Check that one runs, and generate again in a moment.",
    },
  ],
  [
    Code.DeadlineExceeded,
    {
      title: "The time ran out",
      advice: "Take fewer steps or a smaller image, or generate again when there is less to do.",
    },
  ],
  [Code.NotFound, { title: "The service does not know this app", advice: "Choose another app and generate again." }],
  [
    Code.PermissionDenied,
    { title: "Your key does not open this", advice: "Choose an app that you may use, or ask for a key that opens it." },
  ],
  [
    Code.Unimplemented,
    {
      title: "The service does not know this call",
      advice: "The page and the service have different versions. Reload the page.",
    },
  ],
]);

function violatedFields(error: ConnectError): ReadonlyMap<FieldName, string> {
  const fields = new Map<FieldName, string>();
  for (const { violations } of error.findDetails(ViolationsSchema)) {
    for (const { field, message } of violations) {
      const name = fieldFor((field?.elements ?? []).map(({ fieldName }) => fieldName).join("."));
      if (name !== undefined) {
        fields.set(name, sentence(message));
      }
    }
  }
  return fields;
}

function sentence(message: string): string {
  return `${message.slice(0, 1).toUpperCase()}${message.slice(1).replace(/\.$/, "")}.`;
}

function retryAfterOf(error: ConnectError): number | undefined {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? undefined : Number(delay.seconds) * 1000 + delay.nanos / 1e6;
}
