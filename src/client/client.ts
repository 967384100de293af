/**
 * What `throughline/client` offers: typed clients of the two services, in Node and in browsers. Their messages are in
 * `throughline/contracts`.
 *
 * @module client
 */
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { cancellableFetch } from "./cancellable-fetch.js";

/** Where a service is, or how to reach it. */
export type ClientOptions =
  /**
   * Base URL, such as `http://127.0.0.1:8080`: the Connect protocol over fetch, in Node and in a browser alike. Node's fetch gives up on a
   * response that is silent for five minutes; for longer generations stream the progress, or bring a transport.
   */
  | { readonly baseUrl: string }
  /** Any Connect transport, such as connect-node's gRPC one. */
  | { readonly transport: Transport };

/** A typed client of the pipeline. */
export function createPipelineClient(options: ClientOptions): Client<typeof ImagePipelineService> {
  return createClient(ImagePipelineService, transportOf(options));
}

/** A typed client of a worker, for those who call one directly. */
export function createWorkerClient(options: ClientOptions): Client<typeof TextToImageWorkerService> {
  return createClient(TextToImageWorkerService, transportOf(options));
}

function transportOf(options: ClientOptions): Transport {
  return "transport" in options
    ? options.transport
    : createConnectTransport({
        baseUrl: options.baseUrl,
        useBinaryFormat: true,
        // Browsers' own fetch hears every abort.
        ...("process" in globalThis && { fetch: cancellableFetch }),
      });
}
