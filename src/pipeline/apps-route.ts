import type { AppClients } from "../app/app-clients.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import type { Caller } from "../mesh/access/callers.js";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";

/** Path under which a pipeline says how its apps are. */
export const appsPath = "/apps";

/**
 * Answers `GET /apps` with `{"apps": [AppStatus, …]}`: the apps of the directory that the caller may use, and their workers as this pipeline
 * sees them, addresses included.
 *
 * @param onError told where it could not be said.
 */
export function createAppsRoute(apps: Pick<AppClients, "describe">, onError: (error: unknown) => void) {
  return (request: NodeRequest, response: NodeResponse, { mayUse }: Pick<Caller, "mayUse">): void => {
    if (request.method !== "GET") {
      respondPlain(response, 405, "the apps are asked for by GET", { allow: "GET" });
      return;
    }
    apps.describe(TextToImageWorkerService, mayUse).then(
      (told) => {
        response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
        response.end(JSON.stringify({ apps: told }));
      },
      (error: unknown) => {
        onError(error);
        respondPlain(response, 500, "internal error");
      },
    );
  };
}
