import type { Logger } from "pino";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import type { AppClients } from "./app-clients.js";

/** What an app is given by whoever runs it: a process of its own, or a test. */
export interface AppHost {
  /** The other apps that it may call. */
  readonly apps: AppClients;
  /** Tracing of this app alone. */
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}
