import { requestLimits } from "../../request-limits.js";

/** A LoRA that the form applies. */
export interface LoraChoice {
  readonly name: string;
  /** As typed; empty for the worker's own. */
  readonly scale: string;
}

/** LoRAs of the form's text, such as `pixel:0.8,flat`. Names and scales are encoded as in URLs. */
export function lorasOf(text: string): readonly LoraChoice[] {
  return text
    .split(",")
    .map((entry) => {
      const [name = "", scale = ""] = entry.split(":").map(decoded);
      return { name, scale };
    })
    .filter(({ name }) => name !== "");
}

/** The text that {@link lorasOf} reads. */
export function lorasText(choices: readonly LoraChoice[]): string {
  return choices
    .map((choice) =>
      [choice.name, choice.scale]
        .filter((part) => part !== "")
        .map(encodeURIComponent)
        .join(":"),
    )
    .join(",");
}

/** The text with a LoRA added or changed; a scale of undefined removes it. */
export function withLora(text: string, name: string, scale: string | undefined): string {
  const choices = lorasOf(text);
  const changed = scale === undefined ? [] : [{ name, scale }];
  const index = choices.findIndex((choice) => choice.name === name);
  return lorasText(index < 0 ? [...choices, ...changed] : choices.toSpliced(index, 1, ...changed));
}

/**
 * A message where the LoRAs cannot be sent.
 *
 * @param known names of the model; undefined for an unknown model.
 */
export function checkLoras(text: string, known: readonly string[] | undefined): string | undefined {
  const { maxLoras, loraScale } = requestLimits;
  const choices = lorasOf(text);
  const foreign = choices.find(({ name }) => known?.includes(name) === false);
  if (foreign !== undefined) {
    return `This model has no LoRA ${foreign.name}: remove it.`;
  }
  if (choices.length > maxLoras) {
    return `${choices.length} LoRAs are too many: at most ${maxLoras} are taken.`;
  }
  const wrong = choices.find(({ scale }) => !(Number(scale) >= loraScale.min && Number(scale) <= loraScale.max));
  return wrong && `The scale of ${wrong.name} is a number from ${loraScale.min} to ${loraScale.max}.`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
