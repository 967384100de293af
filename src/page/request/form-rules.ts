import type { Model, Scheduler } from "../../contracts/contracts.js";
import { type NumberRange, requestLimits } from "../../request-limits.js";
import { checkLoras } from "./loras.js";
import { type FieldName, type FormField, type RequestForm, schedulers } from "./request-form.js";

/** What a number field takes. */
export interface NumberRule extends NumberRange {
  /** Whether the limits are those of the model, and not the contract's. @default false */
  readonly ofModel?: boolean;
}

/** The number fields and the contract's limits. */
export const numberRules = {
  width: requestLimits.side,
  height: requestLimits.side,
  steps: requestLimits.steps,
  guidance: requestLimits.guidance,
  seed: requestLimits.seed,
  strength: requestLimits.strength,
} as const satisfies Partial<Record<FormField, NumberRule>>;

/** A field that takes a number. */
export type NumberFieldName = keyof typeof numberRules;

/** What a form's fields take. */
export interface FormRules {
  readonly numbers: Readonly<Record<NumberFieldName, NumberRule>>;
  /** Names of the schedulers that can be chosen. */
  readonly schedulers: readonly string[];
  /** Names of the LoRAs that can be chosen; undefined where they are not known. */
  readonly loras: readonly string[] | undefined;
  /** Whether it takes an image to start from. */
  readonly takesImage: boolean;
}

/** The contract's limits: for an app whose model is not known. */
export const contractRules: FormRules = {
  numbers: numberRules,
  schedulers: [...schedulers.keys()],
  loras: undefined,
  takesImage: true,
};

/**
 * What a model takes.
 *
 * @param scheduler name that the form has; empty for the model's own. The maximum of steps is known for that one only.
 */
export function rulesOf(model: Model | undefined, scheduler: string): FormRules {
  if (model === undefined) {
    return contractRules;
  }
  const { minSize, maxSize, sizeMultiple, maxNumInferenceSteps } = model;
  const side: NumberRule =
    maxSize === 0 ? numberRules.width : { min: minSize, max: maxSize, step: Math.max(1, sizeMultiple), ofModel: true };
  const isOwn = scheduler === "" || schedulers.get(scheduler)?.value === model.defaults?.scheduler;
  const steps: NumberRule =
    isOwn && maxNumInferenceSteps > 0
      ? { min: 1, max: maxNumInferenceSteps, step: 1, ofModel: true }
      : numberRules.steps;
  const taken: ReadonlySet<Scheduler> = new Set(model.schedulers);
  const names = contractRules.schedulers.filter((name) => taken.has(schedulers.get(name)?.value ?? 0));
  return {
    numbers: { ...numberRules, width: side, height: side, steps },
    schedulers: names.length > 0 ? names : contractRules.schedulers,
    loras: model.loras,
    takesImage: model.imageToImage,
  };
}

/**
 * A message for each wrong field; empty where the form can be sent. A model whose rules are not known may still take less.
 *
 * @param hasStart whether there is an image to start from.
 */
export function checkForm(
  form: RequestForm,
  rules: FormRules = contractRules,
  hasStart = false,
): ReadonlyMap<FieldName, string> {
  const wrong = new Map<FieldName, string>();
  if (form.prompt.trim() === "") {
    wrong.set("prompt", "Enter a prompt.");
  }
  const { maxPromptLength } = requestLimits;
  for (const name of ["prompt", "negativePrompt"] as const) {
    const length = [...form[name]].length;
    if (length > maxPromptLength) {
      wrong.set(name, `${length} characters are too many: at most ${maxPromptLength} are taken.`);
    }
  }
  for (const [name, rule] of Object.entries(rules.numbers) as [NumberFieldName, NumberRule][]) {
    const message = checkNumber(form[name], rule);
    // The strength of an image that was removed is not sent.
    if (message !== undefined && (name !== "strength" || hasStart)) {
      wrong.set(name, name === "seed" ? `${message} Leave it empty for a random one.` : message);
    }
  }
  // A name that the contract lacks is not sent.
  if (schedulers.has(form.scheduler) && !rules.schedulers.includes(form.scheduler)) {
    wrong.set("scheduler", "This model's configuration does not fit that scheduler; leave it out for the model's own.");
  }
  const wrongLoras = checkLoras(form.loras, rules.loras);
  if (wrongLoras !== undefined) {
    wrong.set("loras", wrongLoras);
  }
  if (hasStart && !rules.takesImage) {
    wrong.set("initImage", `${noImageTaken} Remove it.`);
  }
  return wrong;
}

/** Of a model without a VAE encoder. */
export const noImageTaken = "This model takes no image to start from.";

function checkNumber(text: string, rule: NumberRule): string | undefined {
  if (text.trim() === "") {
    return undefined;
  }
  const { min, max, step } = rule;
  const value = Number(text);
  const fits = value >= min && value <= max && (step === undefined || value % step === 0);
  return fits ? undefined : ruleText(rule);
}

/** The rule as a sentence; that of a model in the words of the worker. */
function ruleText({ min, max, step, ofModel = false }: NumberRule): string {
  const kind = step === undefined ? "a number" : step === 1 ? "a whole number" : `a multiple of ${step}`;
  const range = ofModel && min === max ? `${min}` : `${kind} from ${min} to ${max}`;
  return ofModel ? `This model takes ${range}.` : `${range.slice(0, 1).toUpperCase()}${range.slice(1)}.`;
}

/** Values that empty fields take; a field without one is chosen by the service. */
export type FormDefaults = Readonly<
  Partial<Record<Exclude<NumberFieldName, "seed" | "strength"> | "scheduler", string>>
>;

/**
 * The model's defaults, as they can be typed into the form.
 *
 * @param scheduler name that the form has. Another scheduler than the model's own can have another number of steps.
 */
export function defaultsOf(model: Model | undefined, scheduler: string): FormDefaults {
  const { width, height, numInferenceSteps, guidanceScale, scheduler: own } = model?.defaults ?? {};
  const ownName = [...schedulers].find(([, { value }]) => value === own)?.[0];
  const isOwn = scheduler === "" || scheduler === ownName;
  return {
    ...textOf("width", width),
    ...textOf("height", height),
    ...(isOwn && textOf("steps", numInferenceSteps)),
    // A float of Protobuf has seven digits.
    ...textOf("guidance", guidanceScale === undefined ? undefined : Number(guidanceScale.toPrecision(7))),
    ...textOf("scheduler", ownName),
  };
}

function textOf<Name extends keyof FormDefaults>(name: Name, value: number | string | undefined): FormDefaults {
  return value === undefined ? {} : { [name]: String(value) };
}
