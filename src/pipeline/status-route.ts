import type { AppClients } from "../app/app-clients.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import type { CallerHandler } from "../mesh/access/access-control.js";
import { respondPlain } from "../mesh/port/node-handler.js";

/** What a pipeline reports of itself to operators. It contains no names of callers, and nothing of their requests. */
export interface PipelineStatus {
  /** Version of the package. */
  readonly version: string;
  /** Spans of this process since its start; null if it exports none. */
  readonly spans: { readonly exported: number; readonly lost: number; readonly waiting: number } | null;
  /** Jobs of all callers and pipelines of the database; null without jobs. */
  readonly jobs: {
    readonly waiting: number;
    readonly running: number;
    /** Age of the oldest waiting job, in seconds. */
    readonly oldestSeconds: number;
    readonly deadWebhooks: number;
  } | null;
}

/** Path of the status. */
export const statusPath = "/status";

/**
 * Create the handler of `GET /status`: `{"pipeline": PipelineStatus, "apps": [AppStatus, …]}`, with the apps that the caller may use.
 *
 * @param onError called if the status cannot be read.
 */
export function createStatusRoute(
  apps: Pick<AppClients, "describe">,
  readStatus: () => Promise<PipelineStatus>,
  onError: (error: unknown) => void,
): CallerHandler {
  return (request, response, { mayUse }) => {
    if (request.method !== "GET") {
      respondPlain(response, 405, "use GET", { allow: "GET" });
      return;
    }
    Promise.all([readStatus(), apps.describe(TextToImageWorkerService, mayUse)]).then(
      ([pipeline, statuses]) => {
        response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
        response.end(JSON.stringify({ pipeline, apps: statuses }));
      },
      (error: unknown) => {
        onError(error);
        respondPlain(response, 503, "the status cannot be read; the server's log has the reason");
      },
    );
  };
}
