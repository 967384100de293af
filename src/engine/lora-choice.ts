import type { FieldViolation, LoraChoice, ScaledLora } from "./engine.js";

/** Names in an error; more are counted. */
const namedInErrors = 10;

/**
 * Fills in the default scales of the LoRAs that a request names, and adds what is wrong with them to `violations`.
 *
 * @param known LoRAs of the model; undefined if it cannot have any.
 */
export function resolveLoras(
  choices: readonly LoraChoice[],
  known: readonly ScaledLora[] | undefined,
  violations: FieldViolation[],
): readonly ScaledLora[] {
  const names = new Set<string>();
  return choices.map(({ name, scale }, index) => {
    const violate = (part: string, message: string) =>
      violations.push({ field: "loras", place: `[${index}].${part}`, message });
    const lora = known?.find((one) => one.name === name);
    if (lora === undefined) {
      violate("name", describeKnown(known));
    } else if (names.has(name)) {
      violate("name", "each name may stand once");
    }
    names.add(name);
    if (scale !== undefined && !Number.isFinite(scale)) {
      violate("scale", "a scale is a finite number");
    }
    return { name, scale: scale ?? lora?.scale ?? 1 };
  });
}

function describeKnown(known: readonly ScaledLora[] | undefined): string {
  if (known === undefined) {
    return "this model takes no LoRAs, because its graphs are exported ones";
  }
  if (known.length === 0) {
    return "this worker has no LoRAs";
  }
  const rest = known.length - namedInErrors;
  const names = known.slice(0, namedInErrors).map(({ name }) => name);
  return `this worker has no LoRA of that name; it has ${names.join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`;
}

/** A LoRA with its scale as text, such as `pixel:0.8`. Scales of requests are float32, whose six digits are those that were asked for. */
export function describeLora({ name, scale }: ScaledLora): string {
  return `${name}:${Number(scale.toPrecision(6))}`;
}
