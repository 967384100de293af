import type { MessageInitShape } from "@bufbuild/protobuf";
import { Delivery, type GenerateRequestSchema } from "../../contracts/contracts.js";
import type { Job } from "../../gen/throughline/v1/job_pb.js";
import { fieldsOf } from "../request/form-of-options.js";
import { emptyForm, type RequestForm, requestOf, usualStrength } from "../request/request-form.js";

/**
 * The request of a job. Its image is fetched by its URL, which lasts as long as the job and stands in lists.
 *
 * @param form one that the form's check finds nothing wrong with.
 * @param initImage encoded image to start from. Then the strength is sent in any case: a job is returned without the image, and its strength
 *   shows that there was one.
 */
export function jobRequestOf(
  form: RequestForm,
  initImage: Uint8Array | undefined,
): MessageInitShape<typeof GenerateRequestSchema> {
  const strength = form.strength.trim() === "" ? String(usualStrength) : form.strength;
  return requestOf({ ...form, strength }, initImage, Delivery.URL);
}

/** What a job was asked for. */
export interface JobAsk {
  readonly form: RequestForm;
  /** Whether it starts from an image, which the service does not return. */
  readonly hasStart: boolean;
}

/** The form that asks for the same image as a job. */
export function askOf({ work }: Job): JobAsk {
  if (work.case === undefined) {
    return { form: emptyForm, hasStart: false };
  }
  const { prompt = "", options } = (work.case === "generate" ? work.value : work.value.request) ?? {};
  return {
    form: { ...emptyForm, prompt, workerApp: work.value.workerApp, ...(options && fieldsOf(options)) },
    hasStart: options?.strength !== undefined,
  };
}
