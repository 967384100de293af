import { Code, ConnectError } from "@connectrpc/connect";
import type { Model } from "../../gen/throughline/v1/image_pb.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import { appIdPattern } from "../../mesh/app-id.js";
import { retryDelayMsOf } from "../../mesh/errors/errors.js";
import type { FrontCall, HttpFront } from "../../mesh/serve/http-front.js";
import { requestUrl } from "../../mesh/serve/node-request.js";
import { respondJson } from "../json-response.js";
import { readEditRequest } from "./edit-request.js";
import { modelNotFound, OpenAiError, respondError, toOpenAiError } from "./errors.js";
import { type ImagesRequest, readImagesRequest } from "./image-request.js";
import { pipelineClient, respondImages, unixTime } from "./images.js";
import { fileTooLarge, maxFormBytes } from "./multipart.js";
import { streamImage } from "./stream.js";

const imagesPath = "/v1/images/generations";
const editsPath = "/v1/images/edits";
const modelsPath = "/v1/models";

/**
 * Create the front with OpenAI's images API: `POST /v1/images/generations`, `POST /v1/images/edits`, `GET /v1/models` and `GET /v1/models/{id}`. A model's id is the
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
    serves: (path) =>
      path === imagesPath || path === editsPath || path === modelsPath || path.startsWith(`${modelsPath}/`),
    async handle(call) {
      let slot: AdmittedCall | undefined;
      let reachesService = false;
      try {
        const isEdit = call.path === editsPath;
        const isGeneration = isEdit || call.path === imagesPath;
        checkMethod(call, isGeneration ? ["POST"] : ["GET", "HEAD"]);
        if (isEdit) {
          checkIsForm(call);
          checkIsNoOtherPage(call);
        } else if (isGeneration) {
          checkIsJson(call);
        }
        slot = call.admit();
        if (!isGeneration) {
          reachesService = true;
          await respondModels(call, slot);
          return undefined;
        }
        const request = isEdit ? await readEdit(call) : readImagesRequest(await call.readBody());
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

function checkIsForm({ header }: FrontCall): void {
  if (!/^multipart\/form-data\s*(;|$)/i.test(header.get("content-type") ?? "")) {
    throw new OpenAiError(415, {
      message: "send the image and the parameters as a form, with the header content-type: multipart/form-data",
      type: "invalid_request_error",
      code: "unsupported_content_type",
    });
  }
}

/**
 * Reject a form of another origin's page that was sent without a preflight: browsers allow any page to send one. With the header
 * `authorization` there was a preflight, which the server's CORS has answered.
 */
function checkIsNoOtherPage({ header, request, reportForeignPage }: FrontCall): void {
  const origin = header.get("origin");
  if (origin === null || header.has("authorization")) {
    return;
  }
  const { host } = new URL(requestUrl(request, editsPath));
  if (!URL.canParse(origin) || new URL(origin).host !== host) {
    reportForeignPage();
    throw new OpenAiError(403, {
      message:
        "a web page of another origin must send the header authorization; any value will do where no key is needed",
      type: "permission_error",
      code: "permission_denied",
    });
  }
}

async function readEdit(call: FrontCall): Promise<ImagesRequest> {
  const body = await call.readBody(maxFormBytes).catch((error: unknown) => {
    throw isTooLarge(error) ? fileTooLarge("image") : error;
  });
  return readEditRequest(body, call.header.get("content-type") ?? "");
}

/** A message above the size limit: unlike a full memory, it has no delay. */
function isTooLarge(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.ResourceExhausted && retryDelayMsOf(error) === undefined;
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

const codes: ReadonlyMap<number, Code> = new Map([
  [403, Code.PermissionDenied],
  [404, Code.NotFound],
  [413, Code.ResourceExhausted],
]);

function codeOf(thrown: unknown): Code {
  if (thrown instanceof OpenAiError) {
    return codes.get(thrown.status) ?? Code.InvalidArgument;
  }
  return ConnectError.from(thrown).code;
}
