import type { Studio } from "../shell/studio.js";
import { FieldMessage, Slider } from "./field.js";
import { lorasOf, withLora } from "./loras.js";

/** Ends of the slider. The field beside it takes the contract's whole range. */
const usualScale = 2;

/** The model's LoRAs, each with its scale once it is chosen. One of a link that the model lacks stays until it is removed. */
export function LoraField({ studio }: { studio: Studio }) {
  const text = studio.form.value.loras;
  const chosen = new Map(lorasOf(text).map(({ name, scale }) => [name, scale]));
  const own = studio.rules.value.loras ?? [];
  const names = [...own, ...[...chosen.keys()].filter((name) => !own.includes(name))];
  if (names.length === 0) {
    return null;
  }
  const isWrong = studio.wrong.value.has("loras");
  const describedBy = isWrong ? "loras-wrong" : undefined;
  const choose = (name: string, scale: string | undefined) => studio.edit("loras", withLora(text, name, scale));
  return (
    <fieldset class="field wide loras" aria-describedby={describedBy}>
      <legend>LoRAs</legend>
      <ul>
        {names.map((name, index) => {
          const scale = chosen.get(name);
          return (
            <li key={name}>
              <label class="check">
                <input
                  type="checkbox"
                  checked={scale !== undefined}
                  onChange={(event) => choose(name, event.currentTarget.checked ? "" : undefined)}
                />
                <span>{name}</span>
              </label>
              {scale !== undefined && (
                <Slider
                  id={`lora-${index}`}
                  label={`Scale of ${name}`}
                  text={scale}
                  fallback={1}
                  // The worker has a default for each LoRA, which its model's description lacks.
                  placeholder="auto"
                  min={-usualScale}
                  max={usualScale}
                  wrong={isWrong && Number.isNaN(Number(scale))}
                  describedBy={describedBy}
                  onInput={(value) => choose(name, value)}
                />
              )}
            </li>
          );
        })}
      </ul>
      <FieldMessage studio={studio} name="loras" />
    </fieldset>
  );
}
