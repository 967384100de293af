import { type Client, createClient } from "@connectrpc/connect";
import { StudioService } from "../../gen/throughline/studio/v1/studio_pb.js";
import { CommandError } from "../command-error.js";
import type { ServerAccess } from "../service/server-access.js";
import { createServerTransport, describeCallFailure } from "./server-transport.js";

/** Spans of a long trace come in one message. */
const maxMessageBytes = 64 * 1024 * 1024;

/** Milliseconds in which a collector tells what it has. */
export const studioWaitMs = 10_000;

/** Who tells what runs: a local collector, or a pipeline with a studio. */
export interface StudioSource {
  /** Base URL. */
  readonly server: string;
  readonly studio: Client<typeof StudioService>;
}

/** Makes a client of the StudioService at a base URL. */
export function connectStudio(server: string, access?: ServerAccess): StudioSource {
  return { server, studio: createClient(StudioService, createServerTransport({ server, access, maxMessageBytes })) };
}

/** Why a collector did not tell of its traces, and what to do. */
export function collectorFailure(server: string, cause: unknown): CommandError {
  const advice =
    "throughline dev and throughline collector run one that tells of its traces; --collector names its URL";
  return new CommandError(`${describeCallFailure(server, cause)} (${advice})`, { cause });
}
