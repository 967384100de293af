import { parse } from "yaml";
import * as z from "zod";
import { appIdPattern } from "../app-id.js";
import { type Reloaded, type ReloadOptions, reloadFiles } from "../tls/reloaded-files.js";
import { type CallerDirectory, type CallerIdentity, createCallerDirectory } from "./caller-directory.js";
import { callerKeyHash } from "./caller-keys.js";

const callerName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const certificateName = /^(?:uri|dns|email|ip|cn):.+$/;
/** All apps, or all apps of an owner. */
const appPattern = /^(?:\*|[A-Za-z0-9][A-Za-z0-9._-]*\/\*)$/;

const rate = z
  .number("must be a number above 0")
  .positive("must be a number above 0")
  .max(1_000_000, "must be at most 1,000,000");
const count = z
  .int("must be a whole number from 1 to 1,000,000")
  .min(1, "must be 1 or more")
  .max(1_000_000, "must be at most 1,000,000");

const appPatterns = z
  .array(
    z
      .string("must be a string")
      .refine((app) => appIdPattern.test(app) || appPattern.test(app), 'must be an app id, owner/* or "*"'),
    "must be a list of app ids",
  )
  .min(1, "must name at least one app");

const callerSchema = z
  .strictObject({
    name: z
      .string("must be a string")
      .regex(callerName, "must be up to 64 letters, digits, dots, dashes or underscores"),
    keys: z
      .array(
        z
          .string("must be a string")
          .regex(callerKeyHash, "must be sha256: and 64 hexadecimal digits, as throughline keys prints it"),
      )
      .default([]),
    certificates: z
      .array(
        z
          .string("must be a string")
          .regex(certificateName, "must be a name with uri:, dns:, email:, ip: or cn: before it"),
      )
      .default([]),
    apps: appPatterns.optional(),
    register: appPatterns.optional(),
    requestsPerSecond: rate.optional(),
    requestsPerMinute: rate.optional(),
    burst: count.optional(),
    maxConcurrent: count.optional(),
    mayNameCallers: z.boolean("must be true or false").optional(),
  })
  .refine(
    ({ apps, register }) => apps !== undefined || register !== undefined,
    "needs apps that it may use, or for a worker, apps that it may register as",
  )
  .refine(({ keys, certificates }) => keys.length + certificates.length > 0, "needs keys or certificates")
  .refine(
    ({ requestsPerSecond, requestsPerMinute }) => requestsPerSecond === undefined || requestsPerMinute === undefined,
    "takes requestsPerSecond or requestsPerMinute, not both",
  )
  .refine(
    ({ requestsPerSecond, requestsPerMinute, burst }) =>
      burst === undefined || requestsPerSecond !== undefined || requestsPerMinute !== undefined,
    "takes burst only with requestsPerSecond or requestsPerMinute",
  );

const fileSchema = z.strictObject({ callers: z.array(callerSchema, "must be a list") });

type CallerInFile = z.infer<typeof callerSchema>;

/**
 * Read a callers file, YAML or JSON, and reload it on changes:
 *
 * ```yaml
 * callers:
 *   - name: studio
 *     keys: ["sha256:…"]                       # from `throughline keys`; two during a key rotation
 *     certificates: ["uri:spiffe://mesh/studio"]  # names in client certificates
 *     apps: [local/text-to-image-worker, acme/*]  # or ["*"]
 *     requestsPerMinute: 60                    # or requestsPerSecond; absent: no limit
 *     burst: 10                                # default: the rate's number, at least 1
 *     maxConcurrent: 4                         # absent: no limit
 *     mayNameCallers: true                     # a pipeline whose throughline-caller headers are trusted; default: false
 *   - name: workers
 *     keys: ["sha256:…"]
 *     register: [acme/*]                       # a worker that announces itself: apps that it may register as; default: none
 * ```
 *
 * @throws Error that names the file, the field and the problem. It quotes no value, which could be a key.
 */
export function reloadCallersFile(file: string, options: ReloadOptions): Reloaded<CallerDirectory> {
  return reloadFiles({
    files: [file],
    make: ([contents]) => createCallerDirectory(readCallers(String(contents), file)),
    ...options,
  });
}

function readCallers(text: string, file: string): CallerIdentity[] {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 0 });
  } catch (error) {
    const line = error instanceof Error && "linePos" in error ? lineOf(error.linePos) : undefined;
    throw new Error(`${file} is neither YAML nor JSON${line === undefined ? "" : `: see line ${line}`}`);
  }
  const result = fileSchema.safeParse(value);
  if (!result.success) {
    const all = result.error.issues.map((issue) => `${issue.path.join(".") || "the file"} ${messageOf(issue)}`);
    const more = all.length > maxIssues ? `; and ${all.length - maxIssues} more` : "";
    throw new Error(`${file}: ${all.slice(0, maxIssues).join("; ")}${more}`);
  }
  const { callers } = result.data;
  rejectDuplicates(
    file,
    "name",
    callers.map(({ name }) => name),
  );
  rejectDuplicates(
    file,
    "key",
    callers.flatMap(({ keys }) => keys),
  );
  rejectDuplicates(
    file,
    "certificate",
    callers.flatMap(({ certificates }) => certificates),
  );
  return callers.map(identityOf);
}

/** Problems of a file that an error names. */
const maxIssues = 10;

/** Message of an issue, without any text from the file. */
function messageOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "unrecognized_keys":
      return `has an unknown field; allowed are ${Object.keys(callerSchema.shape).join(", ")}`;
    case "invalid_type":
      return issue.message.startsWith("must") ? issue.message : `must be ${issue.expected}`;
    default:
      return issue.message;
  }
}

function identityOf({ requestsPerSecond, requestsPerMinute, burst, ...caller }: CallerInFile): CallerIdentity {
  const number = requestsPerSecond ?? requestsPerMinute;
  const perSecond = requestsPerSecond ?? (requestsPerMinute === undefined ? undefined : requestsPerMinute / 60);
  return {
    name: caller.name,
    keys: caller.keys,
    certificates: caller.certificates,
    maxConcurrent: caller.maxConcurrent,
    mayNameCallers: caller.mayNameCallers,
    mayUse: matcherOf(caller.apps),
    mayRegister: matcherOf(caller.register),
    rate:
      perSecond === undefined || number === undefined
        ? undefined
        : {
            perSecond,
            burst: burst ?? Math.max(1, Math.floor(number)),
            label: `${number} requests a ${requestsPerSecond === undefined ? "minute" : "second"}`,
          },
  };
}

/** Whether an app id is in a list of ids and patterns. */
function matcherOf(patterns: readonly string[] = []): (appId: string) => boolean {
  const exact = new Set(patterns);
  return (appId) => exact.has("*") || exact.has(appId) || exact.has(`${appId.split("/", 1)[0]}/*`);
}

function rejectDuplicates(file: string, what: string, values: readonly string[]): void {
  const index = values.findIndex((value, at) => values.indexOf(value) !== at);
  if (index >= 0) {
    throw new Error(`${file} contains a duplicate ${what}: ${what} ${index + 1}`);
  }
}

function lineOf(position: unknown): number | undefined {
  const first: unknown = Array.isArray(position) ? position[0] : undefined;
  return typeof first === "object" && first !== null && "line" in first && typeof first.line === "number"
    ? first.line
    : undefined;
}
