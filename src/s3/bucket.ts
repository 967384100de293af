import type { GetObjectCommandOutput, S3Client } from "@aws-sdk/client-s3";
import { ImageStoreError } from "../image/image-store-error.js";
import { bucketError, hasOldCredentials, isNoSuchKey, statusOf } from "./bucket-error.js";
import type { BucketLocation } from "./bucket-location.js";

/** Content of an object, and the headers that readers get with it. */
export interface NewObject {
  readonly bytes: Uint8Array;
  readonly contentType: string;
  readonly cacheControl: string;
}

/** An object of a list. */
export interface ListedObject {
  /** Key below the prefix of the bucket. */
  readonly key: string;
  /** Milliseconds since 1970. */
  readonly changedAt: number;
}

/** Objects below a prefix of an S3 bucket. Keys are without the prefix. All methods throw ImageStoreError. */
export interface Bucket {
  put(key: string, object: NewObject): Promise<void>;
  /** Stores an object unless its key exists. Returns whether it did. */
  putNew(key: string, object: NewObject): Promise<boolean>;
  /** Returns the content of an object; undefined if it is missing. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** When an object was last written, in milliseconds since 1970; undefined if it is missing. */
  changedAt(key: string): Promise<number | undefined>;
  /** Deletes an object. A missing one is no error. */
  delete(key: string): Promise<void>;
  /** Lists the objects whose keys begin with a text. */
  list(start: string): Promise<readonly ListedObject[]>;
  /** Origin of the signed URLs. */
  originOfUrls(): Promise<string>;
  /** URL under which anybody can read an object until it expires: a secret. */
  presign(key: string): Promise<string>;
  /** @throws ImageStoreError that says what is wrong with the bucket, its endpoint or the credentials. */
  check(): Promise<void>;
}

/** Time limits of a request, in milliseconds. */
const connectMs = 5_000;
const defaultRequestMs = 30_000;
/** Tries of a request, the first included. The SDK waits between them. */
const maxAttempts = 3;

/**
 * Opens a bucket. The SDK finds the credentials: environment, shared files, web identity, container or instance.
 *
 * @throws BucketModuleError if the SDK is not installed.
 */
export async function openBucket(location: BucketLocation): Promise<Bucket> {
  const { bucket: name, prefix, endpoint, publicEndpoint, forcePathStyle, urlTtlSeconds } = location;
  const { region, requestMs = defaultRequestMs } = location;
  // A store of one's own has no regions, but signatures have one.
  const usedRegion = region ?? (endpoint === undefined ? undefined : "us-east-1");
  const sdk = await loadSdk();
  const connect = (url: string | undefined): S3Client => {
    const client = new sdk.S3Client({
      ...(url !== undefined && { endpoint: url }),
      ...(usedRegion !== undefined && { region: usedRegion }),
      forcePathStyle,
      maxAttempts,
      requestHandler: { connectionTimeout: connectMs, requestTimeout: requestMs, throwOnRequestTimeout: true },
      // Stores other than AWS reject the newer checksums.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      ...readsFilesAgain,
    });
    // The versions of the SDK, Node and the operating system are nobody's business.
    client.middlewareStack.remove("getUserAgentMiddleware");
    return client;
  };
  const connectBoth = () => {
    const client = connect(endpoint);
    // Signatures contain the host, so that URLs are signed for the public one.
    return { client, signer: publicEndpoint === undefined ? client : connect(publicEndpoint) };
  };
  let connected = connectBoth();
  const at = (key: string) => ({ Bucket: name, Key: `${prefix}${key}` });
  /** Runs requests, and again with new credentials if the store rejects the ones that were read before. */
  const attempt = async <T>(work: (connection: typeof connected) => Promise<T>): Promise<T> => {
    const used = connected;
    try {
      return await work(used).catch((error: unknown) => {
        if (!hasOldCredentials(error)) {
          throw error;
        }
        if (connected === used) {
          connected = connectBoth();
        }
        return work(connected);
      });
    } catch (error) {
      throw bucketError(error, location);
    }
  };
  const putCommand = (key: string, { bytes, contentType, cacheControl }: NewObject, onlyNew: boolean) =>
    new sdk.PutObjectCommand({
      ...at(key),
      Body: bytes,
      ContentType: contentType,
      CacheControl: cacheControl,
      ...(onlyNew && { IfNoneMatch: "*" }),
    });

  const presign = (key: string) =>
    attempt(({ signer }) => sdk.getSignedUrl(signer, new sdk.GetObjectCommand(at(key)), { expiresIn: urlTtlSeconds }));

  return {
    put: (key, object) =>
      attempt(async ({ client }) => {
        await client.send(putCommand(key, object, false));
      }),

    putNew: (key, object) =>
      attempt(({ client }) =>
        client.send(putCommand(key, object, true)).then(
          () => true,
          (error: unknown) => {
            // 409: another writer of the same key is ahead, and equal keys have equal content.
            if ([409, 412].includes(statusOf(error) ?? 0)) {
              return false;
            }
            throw error;
          },
        ),
      ),

    get: (key) =>
      attempt(({ client }) =>
        client.send(new sdk.GetObjectCommand(at(key))).then(
          async ({ Body }: GetObjectCommandOutput) => Body?.transformToByteArray(),
          (error: unknown) => {
            if (isNoSuchKey(error)) {
              return undefined;
            }
            throw error;
          },
        ),
      ),

    changedAt: (key) =>
      attempt(({ client }) =>
        client.send(new sdk.HeadObjectCommand(at(key))).then(
          ({ LastModified }) => LastModified?.getTime(),
          (error: unknown) => {
            if (statusOf(error) === 404) {
              return undefined;
            }
            throw error;
          },
        ),
      ),

    delete: (key) =>
      attempt(async ({ client }) => {
        await client.send(new sdk.DeleteObjectCommand(at(key)));
      }),

    list: (start) =>
      attempt(async ({ client }) => {
        const found: ListedObject[] = [];
        const pages = sdk.paginateListObjectsV2({ client }, { Bucket: name, Prefix: `${prefix}${start}` });
        for await (const { Contents = [] } of pages) {
          for (const { Key, LastModified } of Contents) {
            if (Key !== undefined && LastModified !== undefined) {
              found.push({ key: Key.slice(prefix.length), changedAt: LastModified.getTime() });
            }
          }
        }
        return found;
      }),

    presign,

    originOfUrls: async () => new URL(await presign("any")).origin,

    check: () =>
      attempt(async ({ client }) => {
        // Unlike a HEAD, its errors have a body with the reason.
        await client.send(new sdk.ListObjectsV2Command({ Bucket: name, Prefix: prefix, MaxKeys: 1 }));
      }),
  };
}

/**
 * Passed on to the SDK's search for credentials, which otherwise reads each file once: a rotated key in a shared file would need a restart.
 */
const readsFilesAgain: object = { ignoreCache: true };

/** Packages of the SDK, which are optional. */
const packages = "@aws-sdk/client-s3 @aws-sdk/s3-request-presigner";

/** Loaded here, because most services have no bucket: it takes 150 ms. */
async function loadSdk() {
  try {
    const [client, presigner] = await Promise.all([
      import("@aws-sdk/client-s3"),
      import("@aws-sdk/s3-request-presigner"),
    ]);
    return { ...client, getSignedUrl: presigner.getSignedUrl };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND") {
      throw new ImageStoreError("unavailable", `an S3 store needs two more packages: npm install ${packages}`, {
        cause: error,
      });
    }
    throw error;
  }
}
