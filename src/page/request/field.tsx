import type { ComponentChildren } from "preact";
import type { Studio } from "../shell/studio.js";
import type { FieldName } from "./request-form.js";

/** Properties of a field. */
export interface FieldProps {
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
export function Field({ studio, name, label, wide = false, children }: FieldProps) {
  const message = studio.wrong.value.get(name);
  return (
    <div class={wide ? "field wide" : "field"}>
      <label for={name}>{label}</label>
      {children({
        id: name,
        "aria-invalid": message !== undefined,
        "aria-describedby": message === undefined ? undefined : `${name}-wrong`,
      })}
      <FieldMessage studio={studio} name={name} />
    </div>
  );
}

/** What is wrong with a field; nothing where it is right. */
export function FieldMessage({ studio, name }: { studio: Studio; name: FieldName }) {
  const message = studio.wrong.value.get(name);
  return message === undefined ? null : (
    <p class="wrong" id={`${name}-wrong`}>
      {message}
    </p>
  );
}

interface SliderProps {
  readonly id: string;
  /** Names both controls. */
  readonly label: string;
  /** The number as typed; empty for the default. */
  readonly text: string;
  /** Where the slider stands with an empty text. */
  readonly fallback: number;
  /** Shown for an empty text. @default the fallback */
  readonly placeholder?: string;
  readonly min: number;
  readonly max: number;
  readonly wrong: boolean;
  readonly describedBy: string | undefined;
  readonly onInput: (text: string) => void;
}

/** A slider with a field for the number beside it, which takes any. */
export function Slider({ id, label, text, fallback, placeholder, min, max, wrong, describedBy, onInput }: SliderProps) {
  const value = text.trim() === "" || Number.isNaN(Number(text)) ? fallback : Number(text);
  return (
    <div class="slider">
      <input
        type="range"
        aria-label={`${label}, slider`}
        min={min}
        max={max}
        step={0.05}
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      <input
        id={id}
        type="text"
        aria-label={label}
        aria-invalid={wrong}
        aria-describedby={describedBy}
        autoComplete="off"
        inputMode="decimal"
        placeholder={placeholder ?? String(fallback)}
        value={text}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </div>
  );
}
