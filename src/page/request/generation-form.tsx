import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Studio } from "../shell/studio.js";
import { type FieldName, maxPromptLength, type NumberRule, numberRules, schedulers } from "./request-form.js";

/** What to generate, and how. */
export function GenerationForm({ studio }: { studio: Studio }) {
  const { form, wrong, generation, connection } = studio;
  const running = generation.state.value.kind === "running";
  const apps = connection.offer.value?.workerApps ?? [];
  const values = form.value;
  const locked = values.seed !== "";
  return (
    <form
      class="panel request"
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
            placeholder="A red heart"
            maxLength={2 * maxPromptLength}
            value={values.prompt}
            onInput={(event) => studio.edit("prompt", event.currentTarget.value)}
          />
        )}
      </Field>
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
      </div>
      {wrong.value.size > 0 && (
        <p class="wrong" role="alert">
          {wrong.value.size === 1 ? "1 field is wrong." : `${wrong.value.size} fields are wrong.`}
        </p>
      )}
      <Options wrong={[...wrong.value.keys()].some((name) => name !== "prompt")}>
        {apps.length > 1 && (
          <Field studio={studio} name="workerApp" label="App" wide>
            {(props) => (
              <select
                {...props}
                value={values.workerApp}
                onChange={(event) => studio.edit("workerApp", event.currentTarget.value)}
              >
                <option value="">{apps[0]} (default)</option>
                {apps.slice(1).map((app) => (
                  <option key={app} value={app}>
                    {app}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        <NumberField studio={studio} name="width" label="Width" unit="px" />
        <NumberField studio={studio} name="height" label="Height" unit="px" />
        <NumberField studio={studio} name="steps" label="Steps" />
        <NumberField studio={studio} name="guidance" label="Guidance" />
        <Field studio={studio} name="scheduler" label="Scheduler" wide>
          {(props) => (
            <select
              {...props}
              value={values.scheduler}
              onChange={(event) => studio.edit("scheduler", event.currentTarget.value)}
            >
              <option value="">The model’s own</option>
              {[...schedulers].map(([name, { label }]) => (
                <option key={name} value={name}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
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
              maxLength={2 * maxPromptLength}
              value={values.negativePrompt}
              onInput={(event) => studio.edit("negativePrompt", event.currentTarget.value)}
            />
          )}
        </Field>
      </Options>
    </form>
  );
}

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

interface NumberFieldProps {
  readonly studio: Studio;
  readonly name: keyof typeof numberRules;
  readonly label: string;
  readonly unit?: string;
  readonly placeholder?: string;
}

function NumberField({ studio, name, label, unit, placeholder = "auto" }: NumberFieldProps) {
  const rule: NumberRule = numberRules[name];
  return (
    <Field studio={studio} name={name} label={unit === undefined ? label : `${label}, ${unit}`}>
      {(props) => (
        <input
          {...props}
          // Not "number": a browser gives no value for a text that is not one, and the default would be sent in its place.
          type="text"
          autoComplete="off"
          inputMode={rule.step === undefined ? "decimal" : "numeric"}
          placeholder={placeholder}
          value={studio.form.value[name]}
          onInput={(event) => studio.edit(name, event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

interface FieldProps {
  readonly studio: Studio;
  readonly name: FieldName;
  readonly label: string;
  readonly wide?: boolean;
  readonly children: (props: {
    readonly id: string;
    readonly "aria-invalid": boolean;
    readonly "aria-describedby": string | undefined;
  }) => ComponentChildren;
}

/** A label, its field, and what is wrong with it. */
function Field({ studio, name, label, wide = false, children }: FieldProps) {
  const message = studio.wrong.value.get(name);
  const messageId = `${name}-wrong`;
  return (
    <div class={wide ? "field wide" : "field"}>
      <label for={name}>{label}</label>
      {children({
        id: name,
        "aria-invalid": message !== undefined,
        "aria-describedby": message === undefined ? undefined : messageId,
      })}
      {message !== undefined && (
        <p class="wrong" id={messageId}>
          {message}
        </p>
      )}
    </div>
  );
}

function shortcut(): string {
  return /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘ Enter" : "Ctrl Enter";
}
