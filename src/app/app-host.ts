import type { Logger } from "pino";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import type { AppClients } from "./app-clients.js";

/** Dependencies of an app, supplied by its process or by a test. */
export interface AppHost {
  /** Clients of other apps. */
  readonly apps: AppClients;
  /** Telemetry of this app. */
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}
