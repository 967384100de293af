import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { requestLimits } from "../../request-limits.js";
import { PriorityField, SubmitJob } from "../jobs/submit-job.js";
import type { AppChoice } from "../shell/app-choices.js";
import type { Studio } from "../shell/studio.js";
import { Field } from "./field.js";
import { useFileDrop } from "./file-drop.js";
import type { NumberFieldName } from "./form-rules.js";
import { LoraField } from "./lora-field.js";
import { type FieldName, schedulers } from "./request-form.js";
import { StartImageField } from "./start-image-field.js";

/** UTF-16 units of a prompt: a code point has two at most. */
const maxTypedLength = 2 * requestLimits.maxPromptLength;

/** What to generate, and how. */
export function GenerationForm({ studio }: { studio: Studio }) {
  const { form, wrong, generation } = studio;
  const running = generation.state.value.kind === "running";
  const model = studio.model.value;
  const values = form.value;
  const locked = values.seed !== "";
  const { isOver, ...drop } = useFileDrop(studio);
  return (
    <form
      class={`panel request${isOver ? " is-over" : ""}`}
      {...drop}
      aria-label="Request"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        studio.generate();
      }}
    >
      <Field studio={studio} name="prompt" label="Prompt" wide>
        {(props) => (
          <textarea
            {...props}
            rows={4}
            dir="auto"
            required
            placeholder={model?.examplePrompts[0] ?? "A red heart"}
            maxLength={maxTypedLength}
            value={values.prompt}
            onInput={(event) => studio.edit("prompt", event.currentTarget.value)}
          />
        )}
      </Field>
      <StartImageField studio={studio} />
      <div class="actions">
        {/* One button, so that it keeps the focus: what cancels must not submit as well. */}
        <button
          type="submit"
          class="primary"
          onClick={(event) => {
            if (running) {
              event.preventDefault();
              studio.cancel();
            }
          }}
        >
          {running ? "Cancel" : "Generate"} <kbd>{running ? "Esc" : shortcut()}</kbd>
        </button>
        <SubmitJob studio={studio} />
      </div>
      {wrong.value.size > 0 && (
        <p class="wrong" role="alert">
          {wrong.value.size === 1 ? "1 field is wrong." : `${wrong.value.size} fields are wrong.`}
        </p>
      )}
      <Options wrong={[...wrong.value.keys()].some(isOption)}>
        <AppField studio={studio} />
        {model !== undefined && (
          <p class="model">
            <span class="muted">Model</span> {model.name}
            {model.defaultsReason !== "" && <span class="muted">, distilled: {model.defaultsReason}</span>}
          </p>
        )}
        <NumberField studio={studio} name="width" label="Width" unit="px" />
        <NumberField studio={studio} name="height" label="Height" unit="px" />
        <NumberField studio={studio} name="steps" label="Steps" />
        <NumberField studio={studio} name="guidance" label="Guidance" />
        <SchedulerField studio={studio} />
        <LoraField studio={studio} />
        <div class="field wide seed">
          <NumberField studio={studio} name="seed" label="Seed" placeholder="random" />
          <div class="switch">
            <button type="button" aria-pressed={!locked} onClick={() => studio.lockSeed(false)}>
              Random
            </button>
            <button type="button" aria-pressed={locked} onClick={() => !locked && studio.lockSeed(true)}>
              Lock
            </button>
          </div>
        </div>
        <Field studio={studio} name="negativePrompt" label="Negative prompt" wide>
          {(props) => (
            <textarea
              {...props}
              rows={2}
              dir="auto"
              placeholder="What the image should not show"
              maxLength={maxTypedLength}
              value={values.negativePrompt}
              onInput={(event) => studio.edit("negativePrompt", event.currentTarget.value)}
            />
          )}
        </Field>
        <PriorityField studio={studio} />
      </Options>
    </form>
  );
}

const isOption = (name: FieldName) => !["prompt", "initImage", "strength"].includes(name);

/** How to generate, put away where the screen is small; open where something in it is wrong. */
function Options({ wrong, children }: { wrong: boolean; children: ComponentChildren }) {
  const [open, setOpen] = useState(matchMedia("(width >= 720px)").matches);
  return (
    <details class="options" open={open || wrong} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Options</summary>
      <div class="option-fields">{children}</div>
    </details>
  );
}

/** The choice of the app, where there is one. An app of a link that the service does not list stays chosen. */
function AppField({ studio }: { studio: Studio }) {
  const [first, ...others] = studio.apps.value;
  const chosen = studio.form.value.workerApp;
  const isListed = chosen === "" || others.some(({ appId }) => appId === chosen);
  if (isListed && others.length === 0) {
    return null;
  }
  return (
    <Field studio={studio} name="workerApp" label="App" wide>
      {(props) => (
        <select {...props} value={chosen} onChange={(event) => studio.edit("workerApp", event.currentTarget.value)}>
          <option value="">{first === undefined ? "The default" : `${appLabel(first)} (default)`}</option>
          {others.map((app) => (
            <option key={app.appId} value={app.appId}>
              {appLabel(app)}
            </option>
          ))}
          {!isListed && <option value={chosen}>{chosen}</option>}
        </select>
      )}
    </Field>
  );
}

function appLabel({ appId, model }: AppChoice): string {
  return model === "" ? appId : `${appId}: ${model}`;
}

/** The model's schedulers. One of a link that the model lacks stays chosen until it is changed. */
function SchedulerField({ studio }: { studio: Studio }) {
  const chosen = studio.form.value.scheduler;
  const names = studio.rules.value.schedulers;
  const own = schedulers.get(studio.defaults.value.scheduler ?? "")?.label;
  return (
    <Field studio={studio} name="scheduler" label="Scheduler" wide>
      {(props) => (
        <select {...props} value={chosen} onChange={(event) => studio.edit("scheduler", event.currentTarget.value)}>
          <option value="">{own === undefined ? "The model’s own" : `${own} (default)`}</option>
          {(names.includes(chosen) || !schedulers.has(chosen) ? names : [...names, chosen]).map((name) => (
            <option key={name} value={name}>
              {schedulers.get(name)?.label}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface NumberFieldProps {
  readonly studio: Studio;
  readonly name: NumberFieldName;
  readonly label: string;
  readonly unit?: string;
  /** @default the model's default, or "auto" for an unknown one */
  readonly placeholder?: string;
}

function NumberField({ studio, name, label, unit, placeholder }: NumberFieldProps) {
  const rule = studio.rules.value.numbers[name];
  const own = name === "seed" || name === "strength" ? undefined : studio.defaults.value[name];
  return (
    <Field studio={studio} name={name} label={unit === undefined ? label : `${label}, ${unit}`}>
      {(props) => (
        <input
          {...props}
          // Not "number": a browser gives no value for a text that is not one, and the default would be sent in its place.
          type="text"
          autoComplete="off"
          inputMode={rule.step === undefined ? "decimal" : "numeric"}
          placeholder={placeholder ?? own ?? "auto"}
          value={studio.form.value[name]}
          onInput={(event) => studio.edit(name, event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

function shortcut(): string {
  return /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘ Enter" : "Ctrl Enter";
}
