import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { Delivery } from "../gen/throughline/v1/image_pb.js";

/** Which worker apps take DELIVERY_INLINE. Workers of the contract's version 1 reject it. */
export interface InlineSupport {
  /**
   * Calls a worker app with the delivery that it takes: INLINE, and where it rejects that, DATA_URI.
   *
   * @throws what `call` throws.
   */
  call<T>(appId: string, call: (delivery: Delivery) => Promise<T>): Promise<T>;
}

/** Options of {@link createInlineSupport}. */
export interface InlineSupportOptions {
  /** Milliseconds until an app that rejected INLINE is asked for it again: it may have been upgraded. @default 10 minutes */
  readonly retryAfterMs?: number | undefined;
  /** Milliseconds from any fixed point. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Begins with INLINE for every app. */
export function createInlineSupport(options: InlineSupportOptions = {}): InlineSupport {
  const { retryAfterMs = 600_000, now = () => performance.now() } = options;
  /** When each app rejected it. */
  const rejectedAt = new Map<string, number>();
  return {
    async call(appId, call) {
      const rejected = rejectedAt.get(appId);
      if (rejected !== undefined && now() - rejected < retryAfterMs) {
        return call(Delivery.DATA_URI);
      }
      try {
        return await call(Delivery.INLINE);
      } catch (error) {
        if (!rejectsDelivery(error)) {
          throw error;
        }
        rejectedAt.set(appId, now());
        return await call(Delivery.DATA_URI);
      }
    },
  };
}

/** Whether a call failed for a broken rule of `options.delivery`. */
function rejectsDelivery(error: unknown): boolean {
  return (
    error instanceof ConnectError &&
    error.code === Code.InvalidArgument &&
    error
      .findDetails(ViolationsSchema)
      .flatMap(({ violations }) => violations)
      .some(({ field }) => {
        const [parent, name] = field?.elements.slice(-2).map(({ fieldName }) => fieldName) ?? [];
        return parent === "options" && name === "delivery";
      })
  );
}
