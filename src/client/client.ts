/**
 * Typed clients of the pipeline, its jobs and the workers, for Node and browsers. `throughline/contracts` has the messages.
 *
 * @module client
 */
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { JobService } from "../gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { cancellableFetch } from "./cancellable-fetch.js";

/** Address of a service, or a transport to it. */
export type ClientOptions =
  /**
   * Base URL, such as `http://127.0.0.1:8080`. Uses the Connect protocol over fetch. Node's fetch fails after 5 min without data: for
   * longer generations, stream the progress or pass a transport.
   */
  | { readonly baseUrl: string }
  /** Any Connect transport, such as connect-node's gRPC transport. */
  | { readonly transport: Transport };

/** Creates a typed client of the pipeline. */
export function createPipelineClient(options: ClientOptions): Client<typeof ImagePipelineService> {
  return createClient(ImagePipelineService, transportOf(options));
}

/** Creates a typed client of a pipeline's durable jobs. */
export function createJobClient(options: ClientOptions): Client<typeof JobService> {
  return createClient(JobService, transportOf(options));
}

/** Creates a typed client of a worker, for direct calls. */
export function createWorkerClient(options: ClientOptions): Client<typeof TextToImageWorkerService> {
  return createClient(TextToImageWorkerService, transportOf(options));
}

function transportOf(options: ClientOptions): Transport {
  return "transport" in options
    ? options.transport
    : createConnectTransport({
        baseUrl: options.baseUrl,
        useBinaryFormat: true,
        // Browsers' fetch handles every abort.
        ...("process" in globalThis && { fetch: cancellableFetch }),
      });
}
