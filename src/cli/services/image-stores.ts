import { mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Logger } from "pino";
import { createDirectoryStore } from "../../image/directory-store.js";
import type { ImageStore } from "../../image/image-store.js";
import { ImageStoreError } from "../../image/image-store-error.js";
import { type Bucket, openBucket } from "../../s3/bucket.js";
import { createImageBucket } from "../../s3/image-bucket.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { CliError, messageOf } from "../errors.js";
import type { OptionValues } from "../options/option.js";
import type { imageStoreOptions } from "../options/server-options.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";

/** Options of a service's image store; without a folder and a bucket there is none. */
export type ImageStoreOptions = { readonly images: string | undefined } & OptionValues<typeof imageStoreOptions>;

/** What is wrong with the options of an image store together. */
export function imageStoreProblems(
  settings: Omit<ImageStoreOptions, "urlTtl" | "imageMaxBytes" | "imageMaxAge">,
): readonly SettingProblem[] {
  const { imageStore, images, s3Endpoint, s3PublicEndpoint, s3ForcePathStyle } = settings;
  const isNoPlainUrl = (url = "http://none"): boolean => {
    const { username, password, search } = new URL(url);
    return username !== "" || password !== "" || search !== "";
  };
  const plainUrl = "must be a URL without user, password and query; AWS_ACCESS_KEY_ID names the user";
  return problemsOf([
    [
      imageStore === undefined && (s3Endpoint !== undefined || s3PublicEndpoint !== undefined || s3ForcePathStyle),
      "--s3-endpoint, --s3-public-endpoint and --s3-force-path-style",
      "need --image-store",
      "name the bucket with --image-store, or leave them out",
    ],
    [
      imageStore !== undefined && images !== undefined,
      "--images and --image-store",
      "both say where images are stored: leave one of them out",
      "leave out --images to store in the bucket",
    ],
    [isNoPlainUrl(s3Endpoint), "--s3-endpoint", plainUrl, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"],
    [isNoPlainUrl(s3PublicEndpoint), "--s3-public-endpoint", plainUrl, "leave them out of the URL"],
  ]);
}

/**
 * Opens the bucket of `--image-store`, and checks that it can be used; undefined without the option.
 *
 * @throws CliError that says what is wrong with the bucket, its endpoint or the credentials.
 */
export async function bucketOf(settings: ImageStoreOptions, environment: Environment): Promise<Bucket | undefined> {
  const bucket = await openBucketOf(settings, environment);
  await bucket?.check().catch(rethrowBucketError);
  return bucket;
}

function rethrowBucketError(error: unknown): never {
  throw error instanceof ImageStoreError ? new CliError(`--image-store ${error.message}`, { cause: error }) : error;
}

/**
 * Opens the bucket of `--image-store` without a request to it; undefined without the option.
 *
 * @throws CliError if the options are wrong, or the SDK is not installed.
 */
export async function openBucketOf(settings: ImageStoreOptions, environment: Environment): Promise<Bucket | undefined> {
  rejectProblems(imageStoreProblems(settings));
  const { imageStore, s3Endpoint, s3PublicEndpoint, s3ForcePathStyle, urlTtl } = settings;
  if (imageStore === undefined) {
    return undefined;
  }
  // Its note on Node's version would stand among the JSON lines of the log.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  return openBucket({
    ...imageStore,
    endpoint: s3Endpoint,
    region: environment["AWS_REGION"],
    publicEndpoint: s3PublicEndpoint,
    forcePathStyle: s3ForcePathStyle,
    urlTtlSeconds: urlTtl,
  }).catch(rethrowBucketError);
}

/**
 * Opens the image store of a service; undefined without a folder and a bucket.
 *
 * @throws CliError when the folder cannot be created.
 */
export async function imageStoreOf(
  { images, imageMaxBytes, imageMaxAge }: ImageStoreOptions,
  bucket: Bucket | undefined,
  logger: Logger,
): Promise<ImageStore | undefined> {
  if (bucket !== undefined) {
    return createImageBucket(bucket, { renewAfterMs: imageMaxAge * 1000 });
  }
  if (images === undefined) {
    return undefined;
  }
  await makeImageFolder(images);
  return createDirectoryStore({
    directory: images,
    maxBytes: imageMaxBytes,
    maxAgeMs: imageMaxAge * 1000,
    onRemoveError: (error, fileName) => logger.warn({ err: error, fileName }, "a stored image could not be removed"),
  });
}

/**
 * Creates a folder for images, and the folders above it. Not by Node's recursive `mkdir`: that one never returns for paths below `/proc`.
 *
 * @throws CliError that names the folder and the reason.
 */
export async function makeImageFolder(folder: string): Promise<void> {
  try {
    await makeFolder(resolve(folder));
  } catch (error) {
    throw new CliError(
      `cannot create the folder of --images, ${folder}: ${messageOf(error)}. Name a folder that this user can write`,
      { cause: error },
    );
  }
}

async function makeFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) {
    return;
  }
  if (found !== undefined) {
    throw new Error(`${path} is not a folder`);
  }
  if (dirname(path) !== path) {
    await makeFolder(dirname(path));
  }
  await mkdir(path).catch((error: unknown) => {
    // Another service may have created it meanwhile.
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) {
      throw error;
    }
  });
}
