import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { createPipelineClient } from "../../client/client.js";
import type { ImagePipelineService } from "../../contracts/contracts.js";
import { StudioService } from "../../gen/throughline/studio/v1/studio_pb.js";
import { JobService } from "../../gen/throughline/v1/job_pb.js";

/** The page's clients of the service that it came from. */
export interface Clients {
  readonly pipeline: Client<typeof ImagePipelineService>;
  readonly studio: Client<typeof StudioService>;
  readonly jobs: Client<typeof JobService>;
}

/** Where the service is, and who calls. */
export interface ClientsOptions {
  readonly baseUrl: string;
  /** The caller's key that is current; undefined for none. */
  readonly key: () => string | undefined;
}

/** Creates the clients over one transport that sends the API key. */
export function createClients({ baseUrl, key }: ClientsOptions): Clients {
  const withKey: Interceptor = (next) => (request) => {
    const current = key();
    if (current !== undefined) {
      request.header.set("authorization", `Bearer ${current}`);
    }
    return next(request);
  };
  const transport = createConnectTransport({ baseUrl, useBinaryFormat: true, interceptors: [withKey] });
  return {
    pipeline: createPipelineClient({ transport }),
    studio: createClient(StudioService, transport),
    jobs: createClient(JobService, transport),
  };
}
