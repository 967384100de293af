import { useRef } from "preact/hooks";
import type { GenerateRequest } from "../../contracts/contracts.js";
import { defaultStrength, requestLimits } from "../../request-limits.js";
import { useObjectUrl } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import { FieldMessage, Slider } from "./field.js";
import type { StartImage } from "./start-image.js";

/** The image to start from, with its strength; nothing for a model that takes none. */
export function StartImageField({ studio }: { studio: Studio }) {
  const file = useRef<HTMLInputElement>(null);
  const state = studio.start.state.value;
  const isTaken = studio.rules.value.takesImage;
  if (!isTaken && state.kind === "none") {
    return null;
  }
  const describedBy = studio.wrong.value.has("initImage") ? "initImage-wrong" : undefined;
  return (
    <fieldset class="field start" id="start" aria-label="Start image" aria-describedby={describedBy}>
      <input
        ref={file}
        type="file"
        accept="image/png,image/jpeg,image/webp"
        hidden
        onChange={(event) => {
          const [chosen] = event.currentTarget.files ?? [];
          // The same file can be chosen again.
          event.currentTarget.value = "";
          if (chosen !== undefined) {
            void studio.startFrom(chosen, chosen.name);
          }
        }}
      />
      {state.kind === "ready" ? (
        <Chosen studio={studio} start={state.start} settings={state.settings} />
      ) : (
        isTaken && (
          <p class="choose">
            <button type="button" id="initImage" onClick={() => file.current?.click()}>
              Start from an image
            </button>
            <span class="muted">{state.kind === "reading" ? `Reading ${state.name} …` : "or drop one"}</span>
          </p>
        )
      )}
      {state.kind === "failed" && (
        <p class="wrong" role="alert">
          {state.message}
        </p>
      )}
      <FieldMessage studio={studio} name="initImage" />
      <p class="unseen" role="status">
        {state.kind === "ready" ? `The image starts from ${state.start.name}` : ""}
      </p>
    </fieldset>
  );
}

interface ChosenProps {
  readonly studio: Studio;
  readonly start: StartImage;
  readonly settings: GenerateRequest | undefined;
}

function Chosen({ studio, start, settings }: ChosenProps) {
  const url = useObjectUrl(start.image);
  const wrong = studio.wrong.value.has("strength");
  const { name, width, height, original } = start;
  return (
    <>
      <div class="chosen">
        <img src={url} alt={`Start: ${name}`} />
        <p>
          <span class="name">{name}</span>
          <span class="muted figures">
            {width}×{height}
            {original !== undefined && `, scaled from ${original.width}×${original.height}`}
          </span>
        </p>
        <button type="button" aria-label="Remove the start image" onClick={() => studio.removeStart()}>
          Remove
        </button>
      </div>
      {settings !== undefined && (
        <p class="choose">
          <button type="button" onClick={() => studio.useSettings(settings)}>
            Use its settings
          </button>
          <span class="muted">to generate it again, without this image</span>
        </p>
      )}
      <label for="strength">Strength: how far the result may leave it</label>
      <Slider
        id="strength"
        label="Strength"
        text={studio.form.value.strength}
        fallback={defaultStrength}
        min={requestLimits.strength.min}
        max={requestLimits.strength.max}
        wrong={wrong}
        describedBy={wrong ? "strength-wrong" : undefined}
        onInput={(text) => studio.edit("strength", text)}
      />
      <FieldMessage studio={studio} name="strength" />
    </>
  );
}
