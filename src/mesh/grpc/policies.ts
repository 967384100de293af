import * as z from "zod";
import { maxTimerMs } from "../../timer-limit.js";

/** Maximum of gRPC's message limits, which are 32-bit integers. */
const maxMessageBytes = 2 ** 31 - 1;

const duration = (leastMs: number) => z.int().min(leastMs).max(maxTimerMs);

/** Schema of one app's policies. Unknown keys, wrong types and numbers out of range are rejected by name. */
export const policiesSchema = z.strictObject({
  /**
   * How to choose among healthy workers with free slots:
   * `least_wait`: shortest expected delay, from service time and queue;
   * `round_robin`: each in turn; `pick_first`: the first in the address list that is healthy.
   * @default least_wait
   */
  loadBalancing: z.enum(["least_wait", "round_robin", "pick_first"]).default("least_wait"),
  /** Retries of calls that fail before their first event. */
  retry: z
    .strictObject({
      /** Maximum attempts that fail with UNAVAILABLE, the first one included; 1 disables retries; at most 5, as in gRPC. @default 4 */
      maxAttempts: z.int().min(1).max(5).default(4),
      /** First backoff, in milliseconds, before a worker is tried again. An untried worker is tried at once. @default 100 */
      initialBackoffMs: duration(1).default(100),
      /** Maximum backoff, in milliseconds. @default 2,000 */
      maxBackoffMs: duration(1).default(2_000),
      /** Factor between two backoffs. @default 2 */
      backoffMultiplier: z.number().min(1).max(10).default(2),
      /** Time limit for the first event (unary: the response) of an attempt, in milliseconds; then UNAVAILABLE. @default no limit */
      attemptTimeoutMs: duration(1).optional(),
      /** Retry throttling, as in gRPC. */
      budget: z
        .strictObject({
          /** Tokens in the bucket. A failed attempt takes one; retries stop at half of them or less. @default 100 */
          maxTokens: z.number().positive().max(1000).default(100),
          /** Tokens that a successful call returns. @default 0.5 */
          tokenRatio: z.number().positive().max(1000).default(0.5),
        })
        .prefault({}),
    })
    .refine(({ initialBackoffMs, maxBackoffMs }) => initialBackoffMs <= maxBackoffMs, {
      error: "must not be less than initialBackoffMs",
      path: ["maxBackoffMs"],
    })
    .prefault({}),
  /** Outlier detection: temporary ejection of failing workers. */
  outlierDetection: z
    .strictObject({
      /** Consecutive failures (UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS) that eject a worker. @default 5 */
      consecutiveFailures: z.int().min(1).max(1000).default(5),
      /** Duration of the first ejection, in milliseconds; the n-th in a row lasts n times as long. @default 10,000 */
      baseEjectionTimeMs: duration(1).default(10_000),
      /** Maximum duration of an ejection, in milliseconds. @default 120,000 */
      maxEjectionTimeMs: duration(1).default(120_000),
      /** Maximum share of ejected workers, in percent; 0 disables ejection. @default 50 */
      maxEjectionPercent: z.int().min(0).max(100).default(50),
    })
    .refine(({ baseEjectionTimeMs, maxEjectionTimeMs }) => baseEjectionTimeMs <= maxEjectionTimeMs, {
      error: "must not be less than baseEjectionTimeMs",
      path: ["maxEjectionTimeMs"],
    })
    .prefault({}),
  /** HTTP/2 keepalive. A dead connection is detected within both times together. */
  keepalive: z
    .strictObject({
      /** Interval of pings, in milliseconds. @default 10,000 */
      timeMs: duration(10).default(10_000),
      /** Time limit for a ping's acknowledgement, in milliseconds. @default 5,000 */
      timeoutMs: duration(10).default(5_000),
    })
    .prefault({}),
  /** Reconnection and name resolution. */
  reconnect: z
    .strictObject({
      /** First backoff between connection attempts, in milliseconds; it grows exponentially. @default 200 */
      initialBackoffMs: duration(1).default(200),
      /** Maximum backoff, in milliseconds. @default 5,000 */
      maxBackoffMs: duration(1).default(5_000),
      /** Interval of name resolutions, in milliseconds; a lost connection triggers one too. @default 30,000 */
      resolveEveryMs: duration(100).default(30_000),
    })
    .refine(({ initialBackoffMs, maxBackoffMs }) => initialBackoffMs <= maxBackoffMs, {
      error: "must not be less than initialBackoffMs",
      path: ["maxBackoffMs"],
    })
    .prefault({}),
  /** Message size limits. */
  messages: z
    .strictObject({
      /** Maximum response message, in bytes; a result may contain an image. @default 33,554,432 */
      maxReceiveBytes: z.int().min(1).max(maxMessageBytes).default(33_554_432),
      /** Maximum request message, in bytes; it may contain an image. @default 12,582,912 */
      maxSendBytes: z.int().min(1).max(maxMessageBytes).default(12_582_912),
    })
    .prefault({}),
});

/** Policies as configured; every part is optional. */
export type PoliciesInput = z.input<typeof policiesSchema>;

/** Policies with all defaults filled in. */
export type Policies = z.output<typeof policiesSchema>;

/**
 * Validate an app's policies and fill in the defaults.
 *
 * @param value as configured; undefined means all defaults.
 * @throws Error that names each wrong entry. grpc-js itself would ignore unknown keys and malformed durations.
 */
export function readPolicies(value: unknown = {}): Policies {
  const result = policiesSchema.safeParse(value);
  if (result.success) {
    return result.data;
  }
  throw new Error(result.error.issues.map(describe).join("; "));
}

function describe(issue: z.core.$ZodIssue): string {
  const path = ["policies", ...issue.path.map(String)].join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => `${path}.${key} is unknown`).join("; ");
  }
  return `${path}: ${issue.message}`;
}
