import type { MessageInitShape } from "@bufbuild/protobuf";
import { promptSlug } from "../../client/prompt-slug.js";
import { schedulersByName } from "../../client/scheduler-names.js";
import { Delivery, type GenerateRequestSchema, type Scheduler } from "../../contracts/contracts.js";
import { requestLimits } from "../../request-limits.js";
import { lorasOf } from "./loras.js";

/** The form's fields as text. An empty field means the model's default; an empty seed means a random one. */
export interface RequestForm {
  readonly prompt: string;
  readonly negativePrompt: string;
  /** App id of the worker; empty for the default one. */
  readonly workerApp: string;
  readonly width: string;
  readonly height: string;
  readonly steps: string;
  readonly guidance: string;
  readonly seed: string;
  /** A name of {@link schedulers}; empty for the model's own. */
  readonly scheduler: string;
  /** LoRAs, such as `pixel:0.8,flat`; see {@link lorasOf}. */
  readonly loras: string;
  /** Counts only with an image to start from, which is no part of the form: it fits in no link. */
  readonly strength: string;
}

/** A field of the form that has a text. */
export type FormField = keyof RequestForm;

/** A field of the form, or the image to start from. */
export type FieldName = FormField | "initImage";

/** A form with all defaults. */
export const emptyForm: RequestForm = {
  prompt: "",
  negativePrompt: "",
  workerApp: "",
  width: "",
  height: "",
  steps: "",
  guidance: "",
  seed: "",
  scheduler: "",
  loras: "",
  strength: "",
};

/** The contract's default of the strength. */
export const usualStrength = 0.3;

/** Usual names, where they differ from the contract's. */
const schedulerLabels: Readonly<Record<string, string>> = {
  "euler-discrete": "Euler",
  "euler-ancestral": "Euler ancestral",
  "dpmpp-2m": "DPM++ 2M",
  "dpmpp-2m-karras": "DPM++ 2M Karras",
  ddim: "DDIM",
  lcm: "LCM",
  unipc: "UniPC",
  "dpmpp-2m-sde": "DPM++ 2M SDE",
  "dpmpp-2m-sde-karras": "DPM++ 2M SDE Karras",
};

/** The sampling algorithms by the name that stands in links, with their labels. */
export const schedulers: ReadonlyMap<string, { readonly label: string; readonly value: Scheduler }> = new Map(
  [...schedulersByName].map(([name, value]) => [name, { label: schedulerLabels[name] ?? name, value }]),
);

/**
 * The request that the form asks for. The image comes inside the answer, because the page keeps it: a store's URL may have forgotten it
 * by then.
 *
 * @param form one that the form's check finds nothing wrong with.
 * @param initImage encoded image to start from.
 */
export function requestOf(
  form: RequestForm,
  initImage?: Uint8Array,
  delivery = Delivery.DATA_URI,
): MessageInitShape<typeof GenerateRequestSchema> {
  const scheduler = schedulers.get(form.scheduler)?.value;
  return {
    prompt: form.prompt,
    workerApp: form.workerApp,
    options: {
      ...(form.negativePrompt !== "" && { negativePrompt: form.negativePrompt }),
      ...numberOf("width", form.width),
      ...numberOf("height", form.height),
      ...numberOf("numInferenceSteps", form.steps),
      ...numberOf("guidanceScale", form.guidance),
      ...numberOf("seed", form.seed),
      ...(scheduler !== undefined && { scheduler }),
      ...(form.loras !== "" && {
        loras: lorasOf(form.loras).map(({ name, scale }) => ({ name, ...numberOf("scale", scale) })),
      }),
      ...(initImage !== undefined && { initImage, ...numberOf("strength", form.strength) }),
      delivery,
      previewInterval: previewIntervalOf(Number(form.steps)),
    },
  };
}

function numberOf<Name extends string>(name: Name, text: string): { readonly [key in Name]?: number } {
  const given: { [key in Name]?: number } = {};
  if (text.trim() !== "") {
    given[name] = Number(text);
  }
  return given;
}

/** About thirty previews of an image. */
function previewIntervalOf(steps: number): number {
  return Math.max(1, Math.round(steps / 30));
}

const fieldOfPath: ReadonlyMap<string, FieldName> = new Map([
  ["prompt", "prompt"],
  ["worker_app", "workerApp"],
  ["options.negative_prompt", "negativePrompt"],
  ["options.width", "width"],
  ["options.height", "height"],
  ["options.num_inference_steps", "steps"],
  ["options.guidance_scale", "guidance"],
  ["options.seed", "seed"],
  ["options.scheduler", "scheduler"],
  ["options.loras", "loras"],
  ["options.init_image", "initImage"],
  ["options.strength", "strength"],
]);

/** The form's field for a path of proto names, such as `request.options.width`, or `generate.options.width` of a job; undefined where the form has none for it. */
export function fieldFor(path: string): FieldName | undefined {
  // A field inside a LoRA is one of the LoRAs.
  const [name = "", option] = path.replace(/^(?:request|generate)\./, "").split(".");
  return fieldOfPath.get(option === undefined ? name : `${name}.${option}`);
}

/** Names of the fields in a link. */
const names: Readonly<Record<FormField, string>> = {
  prompt: "prompt",
  negativePrompt: "negative",
  workerApp: "app",
  width: "width",
  height: "height",
  steps: "steps",
  guidance: "guidance",
  seed: "seed",
  scheduler: "scheduler",
  loras: "loras",
  strength: "strength",
};

/** Longest text of a field that is not listed here. */
const maxValueLength = 128;
const maxLengths: Readonly<Partial<Record<FormField, number>>> = {
  prompt: requestLimits.maxPromptLength,
  negativePrompt: requestLimits.maxPromptLength,
  loras: requestLimits.maxLoras * 2 * requestLimits.maxLoraNameLength,
};

/**
 * The form as the fragment of a URL, such as `#prompt=a+red+heart&seed=7`: fields left to the model are omitted. A fragment stays in the
 * browser: no server, and so no log, sees the prompt.
 */
export function shareFragment(form: RequestForm): string {
  const parameters = new URLSearchParams();
  for (const [field, name] of Object.entries(names) as [FormField, string][]) {
    if (form[field] !== "") {
      parameters.set(name, form[field]);
    }
  }
  return `#${parameters}`;
}

/**
 * Parse a fragment of {@link shareFragment}; undefined if it has no form. Unknown parameters are ignored and long values are cut; the form
 * checks the contract's rules.
 */
export function formFromFragment(fragment: string): RequestForm | undefined {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const given = (Object.entries(names) as [FormField, string][]).flatMap(([field, name]) => {
    const value = parameters.get(name);
    const maxLength = maxLengths[field] ?? maxValueLength;
    return value === null ? [] : [[field, [...value].slice(0, maxLength).join("")] as const];
  });
  return given.length === 0 ? undefined : { ...emptyForm, ...Object.fromEntries(given) };
}

/** The trace id of a fragment such as `#trace=4e59a70947e16460dd0641a9b92f3047`; undefined for any other. */
export function traceFromFragment(fragment: string): string | undefined {
  return /^#trace=([0-9a-f]{32})$/.exec(fragment)?.[1];
}

const extensions: ReadonlyMap<string, string> = new Map([
  ["image/png", "png"],
  ["image/jpeg", "jpg"],
  ["image/webp", "webp"],
]);

/** A file name from the prompt and the seed, such as `a-red-heart-seed-7.png`; see {@link promptSlug}. */
export function imageFileName(prompt: string, seed: number, contentType: string): string {
  return `${promptSlug(prompt)}-seed-${seed}.${extensions.get(contentType) ?? "png"}`;
}
