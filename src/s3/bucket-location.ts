/** Where images are stored, and under which URL readers reach them. */
export interface BucketLocation {
  readonly bucket: string;
  /** Prefix of all keys, empty or with a slash at its end. */
  readonly prefix: string;
  /** Base URL of a store that is not AWS. @default AWS S3 */
  readonly endpoint?: string | undefined;
  /** Region, which signatures contain. @default the one that the SDK finds, and `us-east-1` with an `endpoint` */
  readonly region?: string | undefined;
  /** Base URL in presigned URLs. @default `endpoint` */
  readonly publicEndpoint?: string | undefined;
  /** Whether the bucket stands in the path and not in the host name. */
  readonly forcePathStyle: boolean;
  /** Seconds that a presigned URL is valid, at most 7 days. */
  readonly urlTtlSeconds: number;
  /** Time limit of each try of a request, in milliseconds. @default 30 s */
  readonly requestMs?: number | undefined;
}
