/** App id of a worker that is given none, and of the pipeline's default app. */
export const defaultAppId = "local/text-to-image-worker";
