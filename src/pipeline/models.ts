import { create } from "@bufbuild/protobuf";
import { type CallOptions, createContextValues } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { AppClients } from "../app/app-clients.js";
import { type Model, ModelSchema } from "../gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { withoutLoad } from "../mesh/balance/attempt.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { untraced } from "../trace/app-call-interceptor.js";

/** Dependencies of {@link createModelCatalog}. */
export interface ModelCatalogOptions {
  readonly directory: AppDirectory;
  readonly apps: Pick<AppClients, "client" | "onServing">;
  readonly logger: Pick<Logger, "debug">;
}

/** Models of the worker apps. */
export interface ModelCatalog {
  /**
   * Returns the models of the apps that `mayUse` accepts, the default app's first. Waits at most 2 s for apps that have not described their
   * model yet; such a model has a `worker_app` only.
   */
  list(mayUse: (appId: string) => boolean): Promise<Model[]>;
}

/** Time limit for one description, and for a list, in milliseconds. */
const answerMs = 2_000;
/** Time until a list asks an app again that did not describe its model, in milliseconds. */
const retryMs = 5_000;

interface Entry {
  /** The last description. */
  model: Model | undefined;
  /** Running question, or undefined. It never rejects. */
  asking: Promise<void> | undefined;
  /** Whether a replica became healthy during the running question. */
  stale: boolean;
  /** Of the last failure, by `performance.now()`. */
  failedAt: number;
}

/**
 * Create a cache of the models' descriptions. An app is asked by the first list, and whenever its connection is replaced or one of its
 * replicas becomes healthy, because it may have another model then.
 */
export function createModelCatalog({ directory, apps, logger }: ModelCatalogOptions): ModelCatalog {
  const entries = new Map<string, Entry>();

  const entryOf = (appId: string): Entry => {
    const known = entries.get(appId);
    if (known !== undefined) {
      return known;
    }
    const entry: Entry = { model: undefined, asking: undefined, stale: false, failedAt: Number.NEGATIVE_INFINITY };
    entries.set(appId, entry);
    return entry;
  };

  const describe = async (appId: string, entry: Entry): Promise<void> => {
    try {
      // The description belongs to no request, so it has no span.
      const contextValues = createContextValues().set(untraced, true).set(withoutLoad, true);
      const options: CallOptions = { timeoutMs: answerMs, contextValues };
      const answer = apps.client(appId, TextToImageWorkerService).describeModel({}, options);
      // The first call opens the connection, which has just reported the app as serving.
      entry.stale = false;
      const { model } = await answer;
      if (model === undefined) {
        throw new Error("the answer has no model");
      }
      entry.model = { ...model, workerApp: appId };
    } catch (error) {
      entry.failedAt = performance.now();
      // Such as a worker of an older contract, or one that starts.
      logger.debug({ err: error, workerApp: appId }, "the app did not describe its model");
    }
  };

  const ask = (appId: string): Promise<void> => {
    const entry = entryOf(appId);
    if (entry.asking !== undefined) {
      entry.stale = true;
      return entry.asking;
    }
    entry.stale = false;
    // Begins after the assignment, because the first call reports the app as serving at once, which asks again.
    entry.asking = Promise.resolve()
      .then(() => describe(appId, entry))
      .finally(() => {
        entry.asking = undefined;
        if (entry.stale) {
          void ask(appId);
        }
      });
    return entry.asking;
  };

  apps.onServing((appId) => void ask(appId));
  directory.onChange(() => {
    for (const appId of entries.keys()) {
      if (!directory.appIds.includes(appId)) {
        entries.delete(appId);
      }
    }
  });

  return {
    async list(mayUse) {
      const first = directory.defaultApp;
      const appIds = [...(first === undefined ? [] : [first]), ...directory.appIds.filter((appId) => appId !== first)];
      const usable = appIds.filter(mayUse);
      const isUnknown = ({ model, failedAt }: Entry) => model === undefined && performance.now() - failedAt > retryMs;
      const unknown = usable.filter((appId) => isUnknown(entryOf(appId)));
      if (unknown.length > 0) {
        await within(answerMs, Promise.all(unknown.map((appId) => entryOf(appId).asking ?? ask(appId))));
      }
      return usable.map((appId) => entryOf(appId).model ?? create(ModelSchema, { workerApp: appId }));
    },
  };
}

/** Wait for a promise, at most `ms` milliseconds. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}
