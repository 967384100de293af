import type { Client } from "@connectrpc/connect";
import { signal as createSignal, effect, type ReadonlySignal } from "@preact/signals";
import type { ImagePipelineService, Model } from "../../contracts/contracts.js";
import type { Connection } from "./connection.js";

/** Models of the apps that the caller may use. */
export interface Models {
  /** The default app's first. Empty before the answer, and where the service does not list them, as one of an older version. */
  readonly list: ReadonlySignal<readonly Model[]>;
  /** Asks again. */
  refresh(): void;
}

/** What the models need. */
export interface ModelsOptions {
  readonly client: Client<typeof ImagePipelineService>;
  readonly connection: Pick<Connection, "offer">;
}

/** The service itself waits 2 s for workers that have not described their model. */
const answerMs = 10_000;

/** Asks for the models whenever the service has been reached, first or anew: its workers may have other models then. */
export function createModels({ client, connection }: ModelsOptions): Models {
  const list = createSignal<readonly Model[]>([]);
  let asking = new AbortController();

  const ask = async (signal: AbortSignal): Promise<void> => {
    // Limits of a model that is gone would reject what the service takes, so a failure leaves none.
    const models = await client.listModels({}, { signal, timeoutMs: answerMs }).then(
      (answer) => answer.models,
      () => [],
    );
    if (!signal.aborted) {
      list.value = models;
    }
  };
  const refresh = () => {
    asking.abort();
    asking = new AbortController();
    void ask(asking.signal);
  };

  effect(() => {
    if (connection.offer.value !== undefined) {
      refresh();
    }
  });
  return { list, refresh };
}
