import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createAppClients } from "../app/app-clients.js";
import type { AppHost } from "../app/app-host.js";
import type { App } from "../app/create-app.js";
import type { Observed } from "../app/observe.js";
import { createAppDirectory } from "../mesh/directory/app-directory.js";
import { connectInMemory, type StartedApp, startApp, type Wire } from "./start-app.js";

/** Options of {@link startOwnApps}. */
export interface OwnAppsOptions {
  /** Factory of each app, by app id. Apps start in this order. */
  readonly apps: Readonly<Record<string, (host: AppHost) => App | Promise<App>>>;
  /** Running apps, by app id. */
  readonly known: Readonly<Record<string, StartedApp>>;
  readonly wire: Wire | undefined;
  /** Creates the logger and telemetry of a service. */
  readonly observed: (serviceName: string) => Observed;
}

/** User-defined apps of a test mesh. */
export interface OwnApps {
  /** @throws Error if there is no such app. */
  client<Service extends DescService>(appId: string, service: Service): Client<Service>;
  /** Stops the apps in reverse order. */
  stop(): Promise<void>;
}

/** Starts apps in order. Each can call the known apps and the apps before it. */
export async function startOwnApps({ apps, known, wire, observed }: OwnAppsOptions): Promise<OwnApps> {
  const running = new Map(Object.entries(known));
  const own = new Map<string, StartedApp>();
  for (const [appId, create] of Object.entries(apps)) {
    const { logger, telemetry } = observed(appId.slice(appId.indexOf("/") + 1));
    const entries = [...running].map(([id, { target }]) => [id, { target }] as const);
    const clients = createAppClients({
      directory: createAppDirectory({ apps: Object.fromEntries(entries) }),
      connect:
        wire === "port" ? undefined : ({ appId }, interceptors) => connectInMemory(appOf(running, appId), interceptors),
      telemetry,
    });
    const started = await startApp(await create({ apps: clients, telemetry, logger }), wire);
    running.set(appId, started);
    own.set(appId, {
      ...started,
      async stop() {
        await started.stop();
        clients.close();
      },
    });
  }
  return {
    client: (appId, service) => createClient(service, appOf(own, appId).transport),
    async stop() {
      for (const app of [...own.values()].reverse()) {
        await app.stop();
      }
    },
  };
}

function appOf(apps: ReadonlyMap<string, StartedApp>, appId: string) {
  const app = apps.get(appId);
  if (app === undefined) {
    throw new Error(`the mesh has no app ${JSON.stringify(appId)}: add it to the option apps`);
  }
  return app;
}
