import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createPipelineClient } from "../../client/client.js";
import { type Model, ModelSchema } from "../../gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../../gen/throughline/v1/worker_pb.js";
import type { AppConnections, AppStatus } from "../../mesh/directory/app-connections.js";
import type { Access } from "../services/security.js";
import { createServerTransport } from "./studio-client.js";

/** Models of apps by app id. An app whose model is not known is absent. */
export type AppModels = ReadonlyMap<string, Model>;

/** Maximum milliseconds for a description. */
const answerMs = 2000;
/** Maximum bytes of a pipeline's list. */
const maxMessageBytes = 4 * 1024 * 1024;

/** The pipeline and its credentials. */
export interface ModelsQuery {
  /** Base URL of the pipeline. */
  readonly pipeline: string;
  readonly access: Access;
  readonly interrupt: AbortSignal;
}

/**
 * Models of the apps that the caller may use, from a pipeline's ListModels. Empty if the pipeline does not list them, as one of an older
 * version.
 *
 * @throws the reason of `interrupt`.
 */
export async function modelsOfPipeline({ pipeline, access, interrupt }: ModelsQuery): Promise<AppModels> {
  const client = createPipelineClient({
    transport: createServerTransport({ server: pipeline, access, maxMessageBytes }),
  });
  try {
    // The pipeline itself waits for its workers as long.
    const { models } = await client.listModels({}, { signal: interrupt, timeoutMs: 2 * answerMs });
    return new Map(models.filter(({ name }) => name !== "").map((model) => [model.workerApp, model]));
  } catch {
    interrupt.throwIfAborted();
    return new Map();
  }
}

/** Models of apps, as their own workers describe them. Apps without a serving worker are not asked. */
export async function modelsOfWorkers(
  connections: Pick<AppConnections, "transportTo">,
  apps: readonly AppStatus[],
): Promise<AppModels> {
  const serving = apps.filter(({ workers }) => workers.some(({ health }) => health === "serving"));
  const answers = await Promise.all(
    serving.map(async ({ appId }) => {
      const worker = createClient(TextToImageWorkerService, connections.transportTo(appId));
      // A worker of an older version has no description.
      const { model } = await worker.describeModel({}, { timeoutMs: answerMs }).catch(() => ({ model: undefined }));
      return model === undefined ? [] : [[appId, { ...model, workerApp: appId }] as const];
    }),
  );
  return new Map(answers.flat());
}

/** A model as the RPCs have it in JSON; null for an unknown one. */
export function modelJson(model: Model | undefined): JsonValue {
  return model === undefined ? null : toJson(ModelSchema, model, { useProtoFieldName: true, alwaysEmitImplicit: true });
}
