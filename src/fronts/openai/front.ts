import { Code, ConnectError } from "@connectrpc/connect";
import type { Model } from "../../gen/throughline/v1/image_pb.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import { appIdPattern } from "../../mesh/app-id.js";
import type { FrontCall, HttpFront } from "../../mesh/serve/http-front.js";
import { modelNotFound, OpenAiError, respondError, respondJson, toOpenAiError } from "./errors.js";
import { readImagesRequest } from "./image-request.js";
import { pipelineClient, respondImages, unixTime } from "./images.js";
import { streamImage } from "./stream.js";

const imagesPath = "/v1/images/generations";
const modelsPath = "/v1/models";

/**
 * Create the front with OpenAI's images API: `POST /v1/images/generations`, `GET /v1/models` and `GET /v1/models/{id}`. A model's id is the
 * app id of its workers.
 */
export function createOpenAiFront(): HttpFront {
  const startedAt = unixTime();

  const respondModels = async (call: FrontCall, slot: AdmittedCall): Promise<void> => {
    const { models } = await pipelineClient(call, slot).listModels({}, { signal: call.signal });
    if (call.path === modelsPath) {
      respondJson(call.response, 200, { object: "list", data: models.map((model) => describe(model, startedAt)) });
      return;
    }
    const wanted = decoded(call.path.slice(modelsPath.length + 1));
    const model = models.find(({ workerApp }) => workerApp === wanted);
    if (model === undefined) {
      throw modelNotFound(models.map(({ workerApp }) => workerApp));
    }
    respondJson(call.response, 200, describe(model, startedAt));
  };

  return {
    name: "openai",
    serves: (path) => path === imagesPath || path === modelsPath || path.startsWith(`${modelsPath}/`),
    async handle(call) {
      let slot: AdmittedCall | undefined;
      let reachesService = false;
      try {
        const isGeneration = call.path === imagesPath;
        checkMethod(call, isGeneration ? ["POST"] : ["GET", "HEAD"]);
        if (isGeneration) {
          checkIsJson(call);
        }
        slot = call.admit();
        if (!isGeneration) {
          reachesService = true;
          await respondModels(call, slot);
          return undefined;
        }
        const request = readImagesRequest(await call.readBody());
        if (request.model !== "" && !appIdPattern.test(request.model)) {
          throw await unknownModel(call, slot);
        }
        reachesService = true;
        await (request.stream ? streamImage(request, call, slot) : respondImages(request, call, slot));
        return undefined;
      } catch (thrown) {
        const error = await named(thrown, call, slot);
        respondError(call.response, error);
        return reachesService ? undefined : codeOf(thrown);
      } finally {
        slot?.release();
      }
    },
  };
}

function checkMethod({ request }: FrontCall, allowed: readonly [string, ...string[]]): void {
  if (!allowed.includes(request.method ?? "")) {
    throw new OpenAiError(
      405,
      { message: `use ${allowed[0]} for this path`, type: "invalid_request_error", code: "method_not_allowed" },
      { allow: allowed.join(", ") },
    );
  }
}

/** Reject the content types that a page of any origin may send without a preflight. */
function checkIsJson({ header }: FrontCall): void {
  if (!/^application\/json\s*(;|$)/i.test(header.get("content-type") ?? "")) {
    throw new OpenAiError(415, {
      message: "send the body as JSON, with the header content-type: application/json",
      type: "invalid_request_error",
      code: "unsupported_content_type",
    });
  }
}

/** Decode an id of a path, whose slash clients send as it is, or encoded. Undefined if the encoding is invalid. */
function decoded(id: string): string | undefined {
  try {
    return decodeURIComponent(id);
  } catch {
    return undefined;
  }
}

/** A model as OpenAI describes one. Its own name, defaults and limits are those of `ListModels`. */
function describe({ workerApp, name }: Model, created: number) {
  return { id: workerApp, object: "model", created, owned_by: workerApp.split("/")[0], ...(name !== "" && { name }) };
}

/** Translate an error. That of an unknown model lists the models that the caller may use. */
async function named(thrown: unknown, call: FrontCall, slot: AdmittedCall | undefined): Promise<OpenAiError> {
  const isUnknownModel = thrown instanceof ConnectError && thrown.code === Code.NotFound;
  return isUnknownModel && slot !== undefined ? unknownModel(call, slot).catch(toOpenAiError) : toOpenAiError(thrown);
}

async function unknownModel(call: FrontCall, slot: AdmittedCall): Promise<OpenAiError> {
  const { models } = await pipelineClient(call, slot).listModels({}, { signal: call.signal });
  return modelNotFound(models.map(({ workerApp }) => workerApp));
}

function codeOf(thrown: unknown): Code {
  if (thrown instanceof OpenAiError) {
    return thrown.status === 404 ? Code.NotFound : Code.InvalidArgument;
  }
  return ConnectError.from(thrown).code;
}
