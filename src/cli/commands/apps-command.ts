import { createLogger } from "../../app/observe.js";
import { TextToImageWorkerService } from "../../gen/throughline/v1/worker_pb.js";
import { createAppConnections } from "../../mesh/directory/app-connections.js";
import { createAppConnector } from "../../mesh/directory/app-connector.js";
import type { CommandContext } from "../command-context.js";
import { exitCodes } from "../exit-codes.js";
import { fetchApps } from "../request/fetch-apps.js";
import { directoryOf } from "../service/directory-of.js";
import { serverAccessOf } from "../service/server-access.js";
import { workerSecurityOf } from "../service/worker-security.js";
import type { appsSettings } from "../settings/apps-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import { type ListedApp, renderApps } from "../terminal/apps-table.js";
import { jsonLine } from "../terminal/json-line.js";

type AppsSettings = SettingsOf<typeof appsSettings>;

/** Lists the apps of a directory with their workers' health, and with a running pipeline's figures where it is asked. */
export async function runApps(settings: AppsSettings, context: CommandContext): Promise<number> {
  const { pipeline, json } = settings;
  const { stdout, interrupt } = context;
  const apps =
    pipeline === undefined
      ? await askWorkers(settings, context)
      : await fetchApps({ pipeline, access: serverAccessOf(settings), interrupt });
  stdout.write(json ? jsonLine({ apps }) : renderApps(apps));
  return exitCodes.done;
}

/** The apps with their workers' health alone: how many calls a worker has, it tells only those who make them. */
async function askWorkers(settings: AppsSettings, context: CommandContext): Promise<readonly ListedApp[]> {
  const logger = createLogger({ service: "apps", level: "warn", write: (line) => void context.stderr.write(line) });
  const connections = createAppConnections({
    directory: directoryOf(settings, logger),
    connect: createAppConnector({ security: workerSecurityOf(settings, logger), onRefused() {} }),
  });
  try {
    const apps = await connections.describe(TextToImageWorkerService.typeName);
    return apps.map((app) => ({
      ...app,
      workers: app.workers.map(({ address, health }) => ({ address, health })),
    }));
  } finally {
    connections.close();
  }
}
