import * as z from "zod";

/** Node's timers take no more; a longer one would fire at once. */
const longestMs = 2_147_483_647;

const duration = (leastMs: number) => z.int().min(leastMs).max(longestMs);

/** Checks the policies of one app. An unknown key, a text for a duration and a number out of its range are rejected by name. */
export const policiesSchema = z.strictObject({
  /**
   * How a worker is chosen among those that are healthy and have room:
   * `least_wait`: the one that will begin first, by what is known of its speed and its queue;
   * `round_robin`: each in turn; `pick_first`: the first of the address list, the others are its stand-ins.
   * @default least_wait
   */
  loadBalancing: z.enum(["least_wait", "round_robin", "pick_first"]).default("least_wait"),
  /** When a call that failed before its first event is made again. */
  retry: z
    .strictObject({
      /** Attempts of a call that may fail with UNAVAILABLE, the first one included; 1 never retries. gRPC takes no more than 5. @default 4 */
      maxAttempts: z.int().min(1).max(5).default(4),
      /** Pause before a worker is asked that the call has failed on; each further one is longer. A worker not asked yet is asked at once. @default 100 */
      initialBackoffMs: duration(1).default(100),
      /** Longest pause. @default 2,000 */
      maxBackoffMs: duration(1).default(2_000),
      /** Factor between one pause and the next. @default 2 */
      backoffMultiplier: z.number().min(1).max(10).default(2),
      /** Time for the first event of an attempt, which for a unary call is its answer; then it fails with UNAVAILABLE. @default no limit */
      attemptTimeoutMs: duration(1).optional(),
      /** Keeps a failing app from being flooded, as gRPC's retryThrottling does. */
      budget: z
        .strictObject({
          /** Size of the bucket. A failed attempt takes one; there are no retries while half of it or less is left. @default 100 */
          maxTokens: z.number().positive().max(1000).default(100),
          /** What a call that went well gives back. @default 0.5 */
          tokenRatio: z.number().positive().max(1000).default(0.5),
        })
        .prefault({}),
    })
    .refine(({ initialBackoffMs, maxBackoffMs }) => initialBackoffMs <= maxBackoffMs, {
      error: "must not be less than initialBackoffMs",
      path: ["maxBackoffMs"],
    })
    .prefault({}),
  /** When a worker that answers with errors of its own is left out for a while. */
  outlierDetection: z
    .strictObject({
      /** Failures in a row (UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS) that eject a worker. @default 5 */
      consecutiveFailures: z.int().min(1).max(1000).default(5),
      /** Time of the first ejection; the n-th in a row is n times as long. @default 10,000 */
      baseEjectionTimeMs: duration(1).default(10_000),
      /** Longest ejection. @default 120,000 */
      maxEjectionTimeMs: duration(1).default(120_000),
      /** Share of the workers that may be ejected at once, in percent; 0 ejects none. @default 50 */
      maxEjectionPercent: z.int().min(0).max(100).default(50),
    })
    .refine(({ baseEjectionTimeMs, maxEjectionTimeMs }) => baseEjectionTimeMs <= maxEjectionTimeMs, {
      error: "must not be less than baseEjectionTimeMs",
      path: ["maxEjectionTimeMs"],
    })
    .prefault({}),
  /** How a worker is noticed that is gone without a word: within both times together. */
  keepalive: z
    .strictObject({
      /** Time between pings. @default 10,000 */
      timeMs: duration(10).default(10_000),
      /** Time for a ping's answer. @default 5,000 */
      timeoutMs: duration(10).default(5_000),
    })
    .prefault({}),
  /** How a lost worker is looked for. */
  reconnect: z
    .strictObject({
      /** Pause before the second attempt to connect; each further one is longer. @default 200 */
      initialBackoffMs: duration(1).default(200),
      /** Longest pause. @default 5,000 */
      maxBackoffMs: duration(1).default(5_000),
      /** Time between two looks at what addresses a name has; a lost connection is a reason to look too. @default 30,000 */
      resolveEveryMs: duration(100).default(30_000),
    })
    .refine(({ initialBackoffMs, maxBackoffMs }) => initialBackoffMs <= maxBackoffMs, {
      error: "must not be less than initialBackoffMs",
      path: ["maxBackoffMs"],
    })
    .prefault({}),
  /** Largest messages. */
  messages: z
    .strictObject({
      /** Largest answer, in bytes; a result may hold an image as `data:` URI. @default 33,554,432 */
      maxReceiveBytes: z.int().min(1).max(longestMs).default(33_554_432),
      /** Largest request, in bytes. @default 4,194,304 */
      maxSendBytes: z.int().min(1).max(longestMs).default(4_194_304),
    })
    .prefault({}),
});

/** What may be written of an app's policies; every part may be absent. */
export type PoliciesInput = z.input<typeof policiesSchema>;

/** An app's policies, complete. */
export type Policies = z.output<typeof policiesSchema>;

/**
 * Checks an app's policies and fills in the defaults.
 *
 * @param value as it was written; undefined means all defaults.
 * @throws Error that names each wrong entry: grpc-js itself would ignore an unknown key, and treat a duration of a wrong form as none.
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
    return issue.keys.map((key) => `${path}.${key} is not known`).join("; ");
  }
  return `${path}: ${issue.message}`;
}
