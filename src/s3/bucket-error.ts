import * as z from "zod";
import { ImageStoreError } from "../image/image-store-error.js";
import type { BucketLocation } from "./bucket-location.js";

/** What the SDK's errors have in common. */
const sdkError = z.object({
  name: z.string(),
  message: z.string(),
  $metadata: z.object({ httpStatusCode: z.number().optional() }).optional(),
  code: z.string().optional(),
});

/** HTTP status of an error of the SDK; undefined for any other error. */
export function statusOf(error: unknown): number | undefined {
  return sdkError.safeParse(error).data?.$metadata?.httpStatusCode;
}

/** Errors of credentials that may have been replaced since they were read. */
const ofOldCredentials: ReadonlySet<string> = new Set([
  "InvalidAccessKeyId",
  "SignatureDoesNotMatch",
  "ExpiredToken",
  "InvalidToken",
]);

/** Whether the store rejects the credentials of a request. */
export function hasOldCredentials(error: unknown): boolean {
  return ofOldCredentials.has(sdkError.safeParse(error).data?.name ?? "");
}

export function isNoSuchKey(error: unknown): boolean {
  return sdkError.safeParse(error).data?.name === "NoSuchKey";
}

/** Remedies by the name of S3's error. */
const remedies: Readonly<Record<string, (location: BucketLocation) => string>> = {
  NoSuchBucket: ({ bucket }) => `there is no bucket ${bucket}; create it, or correct --image-store`,
  InvalidBucketName: ({ bucket }) => `${bucket} is not the name of a bucket; correct --image-store`,
  AccessDenied: () => "the credentials may not do this; allow s3:ListBucket, GetObject, PutObject and DeleteObject",
  Forbidden: () => "the credentials may not do this; allow s3:ListBucket, GetObject, PutObject and DeleteObject",
  InvalidAccessKeyId: () => "the store does not know the access key; correct AWS_ACCESS_KEY_ID",
  SignatureDoesNotMatch: () =>
    "the store rejects the signature; correct AWS_SECRET_ACCESS_KEY, or AWS_REGION, or the endpoint's host name",
  AuthorizationHeaderMalformed: () => "the bucket is in another region; set AWS_REGION to it",
  PermanentRedirect: () => "the bucket is in another region; set AWS_REGION to it",
  IllegalLocationConstraintException: () => "the bucket is in another region; set AWS_REGION to it",
  ExpiredToken: () => "the session token of the credentials has expired; renew it",
  InvalidToken: () => "the session token of the credentials is wrong; correct AWS_SESSION_TOKEN",
  RequestTimeTooSkewed: () => "this machine's clock differs from the store's by more than 15 minutes; set it",
  CredentialsProviderError: () => "no credentials are found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
};

/** Names of errors of a store without space: S3 has none, so that each store has its own. */
const fullNames: ReadonlySet<string> = new Set([
  "InsufficientStorage",
  "QuotaExceeded",
  "XMinioStorageFull",
  "XMinioAdminBucketQuotaExceeded",
]);

/** Converts an error of the SDK. The message has no key and no credentials, and names what to correct. */
export function bucketError(error: unknown, location: BucketLocation): ImageStoreError {
  if (error instanceof ImageStoreError) {
    return error;
  }
  const { bucket, endpoint } = location;
  const where = `s3://${bucket}${endpoint === undefined ? "" : ` at ${endpoint}`}`;
  const known = sdkError.safeParse(error).data;
  const status = known?.$metadata?.httpStatusCode;
  if (known !== undefined && (status === 507 || fullNames.has(known.name))) {
    return new ImageStoreError("full", `no space is left in ${where}`, { cause: error });
  }
  const remedy = known && remedies[known.name]?.(location);
  const reason = remedy ?? (status === undefined ? unreachable(known, location) : `${known?.name} (HTTP ${status})`);
  return new ImageStoreError("unavailable", `${where}: ${reason}`, { cause: error });
}

function unreachable(
  error: z.infer<typeof sdkError> | undefined,
  { endpoint, forcePathStyle }: BucketLocation,
): string {
  const cause = error?.code ?? error?.name ?? "unknown error";
  const isName = cause === "ENOTFOUND" || cause === "EAI_AGAIN";
  if (isName && endpoint !== undefined && !forcePathStyle) {
    return `the host of the bucket is not found (${cause}); correct --s3-endpoint, or set --s3-force-path-style`;
  }
  return `cannot be reached (${cause}); check that it runs, and ${endpoint === undefined ? "AWS_REGION" : "--s3-endpoint"}`;
}
