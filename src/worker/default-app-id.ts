/** Default app id of a worker and default app of the pipeline. */
export const defaultAppId = "local/text-to-image-worker";
