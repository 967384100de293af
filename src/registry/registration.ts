import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import {
  type RegisterRequest,
  RegisterRequestSchema,
  RegisterResponseSchema,
} from "../gen/throughline/v1/registry_pb.js";
import { internal, unavailable } from "../mesh/errors/errors.js";
import type { Connections, RunningCall } from "../mesh/grpc/grpc-connections.js";

/** Options of {@link keepRegistered}. */
export interface RegistrationOptions {
  /** Connections to one pipeline. They are closed with the registration. */
  readonly connections: Connections;
  readonly request: RegisterRequest;
  /** Creates the metadata of a stream, with the current key. */
  readonly metadata: () => grpc.Metadata;
  /** Called with each answer, first the one that registers. */
  readonly onRegistered: () => void;
  /** Called when a stream or an attempt has failed. Another attempt follows. */
  readonly onFailed: (error: ConnectError) => void;
  /** Pauses between attempts, in milliseconds. @default 200 to 5,000 */
  readonly backoff?: { readonly initialMs: number; readonly maxMs: number } | undefined;
}

/** The registration of one replica at one pipeline, kept until it is ended. */
export interface Registration {
  /** Ends the lease. Resolves when the pipeline has answered, or after a second. */
  end(): Promise<void>;
}

const path = "/throughline.v1.RegistryService/Register";
const defaultBackoff = { initialMs: 200, maxMs: 5_000 };
/** Longest wait for the end of a lease, in milliseconds. */
const endMs = 1_000;
/** Bounds of the time between two renewals, in milliseconds, whatever a server answers. */
const renewal = { leastMs: 500, mostMs: 60_000 };
/** Time limit for the first answer, in milliseconds: the connection included. */
const firstAnswerMs = 10_000;

/**
 * Keep a replica registered at one pipeline: renew the lease at a third of its time, and register again, for ever, when the stream breaks, or
 * when a renewal is not answered within another third.
 */
export function keepRegistered(options: RegistrationOptions): Registration {
  const { connections, request, metadata, onRegistered, onFailed, backoff = defaultBackoff } = options;
  const bytes = toBinary(RegisterRequestSchema, request);
  let call: RunningCall | undefined;
  let timer: NodeJS.Timeout | undefined;
  let backoffMs = backoff.initialMs;
  let onEnded: (() => void) | undefined;
  let isEnding = false;

  const after = (ms: number, work: () => void): void => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };

  const fail = (error: ConnectError): void => {
    call?.cancel();
    call = undefined;
    clearTimeout(timer);
    if (isEnding) {
      onEnded?.();
      return;
    }
    // Workers that have lost the same pipeline must not return at the same moment.
    after(backoffMs * (0.5 + Math.random() / 2), start);
    backoffMs = Math.min(backoffMs * 2, backoff.maxMs);
    // Last, because it may end the registration.
    onFailed(error);
  };

  const send = (running: RunningCall, answerMs: number): void => {
    running.send(bytes);
    after(answerMs, () => fail(unavailable("the pipeline does not answer")));
  };

  const start = (): void => {
    const running = connections.start(path, metadata(), {
      onMessage(message) {
        if (isEnding) {
          running.read();
          return;
        }
        const leaseMs = leaseOf(message);
        if (leaseMs === undefined) {
          fail(internal("the pipeline's answer has no lease"));
          return;
        }
        backoffMs = backoff.initialMs;
        onRegistered();
        const thirdMs = Math.min(Math.max(leaseMs / 3, renewal.leastMs), renewal.mostMs);
        after(thirdMs, () => send(running, thirdMs));
        running.read();
      },
      onEnd(failure) {
        fail(failure?.error ?? unavailable("the pipeline has ended the registration"));
      },
    });
    call = running;
    send(running, firstAnswerMs);
    running.read();
  };
  start();

  return {
    end() {
      isEnding = true;
      clearTimeout(timer);
      return new Promise<void>((resolve) => {
        onEnded = () => {
          clearTimeout(timer);
          call?.cancel();
          call = undefined;
          connections.close();
          resolve();
        };
        if (call === undefined) {
          onEnded();
          return;
        }
        call.halfClose();
        after(endMs, onEnded);
      });
    },
  };
}

/** The lease of an answer, in milliseconds; undefined without a positive one. */
function leaseOf(message: Uint8Array): number | undefined {
  try {
    const { lease } = fromBinary(RegisterResponseSchema, message);
    const ms = lease === undefined ? 0 : durationMs(lease);
    return ms > 0 ? ms : undefined;
  } catch {
    return undefined;
  }
}
