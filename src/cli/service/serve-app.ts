import type { Logger } from "pino";
import type { App } from "../../app/create-app.js";
import type { Telemetry } from "../../trace/telemetry/telemetry.js";
import type { RunningService } from "../process/run-service.js";
import type {
  ignoreUnknownFieldsSetting,
  protectionSettings,
  reflectionSetting,
} from "../settings/protection-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import type { graceSetting, hostSetting } from "../settings/shared-settings.js";
import { openMetricsPort } from "./metrics-port.js";
import { protectionOf } from "./protection-of.js";

/** What settings say about how an app is served. */
type ServingSettings = { readonly port: number } & SettingsOf<
  typeof protectionSettings & {
    host: typeof hostSetting;
    reflection: typeof reflectionSetting;
    ignoreUnknownFields: typeof ignoreUnknownFieldsSetting;
    grace: typeof graceSetting;
  }
>;

/** Options of {@link serveApp}. */
export interface ServeAppOptions {
  readonly settings: ServingSettings;
  /** App id that callers must be allowed to use; absent where the app asks itself. */
  readonly appId?: string;
  readonly telemetry: Pick<Telemetry, "prometheus">;
  readonly logger: Logger;
}

/**
 * Serves an app as its settings say, with a port for Prometheus beside it where one is wanted: open before the app is ready, so that its start
 * can be watched, and until its last call has ended.
 *
 * @throws CommandError, or the system's error where a port cannot be opened; nothing is then left running.
 */
export async function serveApp(app: App, options: ServeAppOptions): Promise<RunningService> {
  const { settings, appId, telemetry, logger } = options;
  const { host, port, reflection, ignoreUnknownFields, grace } = settings;
  const protection = protectionOf(settings, logger);
  const metrics = telemetry.prometheus && (await openMetricsPort(telemetry.prometheus, { host, protection, logger }));
  try {
    const running = await app.serve({ host, port, appId, reflection, ignoreUnknownFields, ...protection });
    return {
      url: running.url,
      async stop() {
        await running.stop({ graceMs: grace * 1000 });
        await metrics?.close();
      },
    };
  } catch (error) {
    await metrics?.close();
    throw error;
  }
}
