import { signal as createSignal, type ReadonlySignal, type Signal } from "@preact/signals";
import type { GenerateRequest } from "../../contracts/contracts.js";
import { isOfStart, outdatedBy } from "./form-messages.js";
import { fieldsOf } from "./form-of-options.js";
import { checkForm, type FormRules, noImageTaken } from "./form-rules.js";
import type { Asked } from "./generation.js";
import { emptyForm, type FieldName, type FormField, type RequestForm } from "./request-form.js";
import { type StartChoice, type StartImage, settingsIn } from "./start-image.js";

/** The request that the user is writing: its form, the image to start from, and what is wrong with them. */
export interface RequestEditor {
  /** A message for each wrong field of the form as it was last sent, without the fields changed since. */
  readonly wrong: ReadonlySignal<ReadonlyMap<FieldName, string>>;
  /** Changes a field. */
  edit(field: FormField, value: string): void;
  /** Starts the next images from a file. One that the model does not take is rejected, unless it contains settings to use. */
  startFrom(file: Blob, name: string): Promise<void>;
  removeStart(): void;
  /** Fills the form with what an image was generated from. */
  useSettings(settings: GenerateRequest): void;
  /** Replaces the form and the image to start from. */
  fill(form: RequestForm, start: StartImage | undefined): void;
  /** Marks fields that the service rejected. */
  mark(fields: ReadonlyMap<FieldName, string>): void;
  /** Passes a form on if nothing is wrong with it, with its image once that is read. */
  check(asked: RequestForm, pass: (asked: Asked) => void, reject: () => void): void;
}

/** Options of {@link createRequestEditor}. */
export interface RequestEditorOptions {
  readonly form: Signal<RequestForm>;
  readonly start: StartChoice;
  /** What the fields take. */
  readonly rules: ReadonlySignal<FormRules>;
}

/** Creates the editor, with nothing wrong. */
export function createRequestEditor({ form, start, rules }: RequestEditorOptions): RequestEditor {
  const wrong = createSignal<ReadonlyMap<FieldName, string>>(new Map());
  const forget = (gone: (name: FieldName) => boolean) => {
    if ([...wrong.value.keys()].some(gone)) {
      wrong.value = new Map([...wrong.value].filter(([name]) => !gone(name)));
    }
  };
  const fill = (filled: RequestForm, image: StartImage | undefined) => {
    form.value = filled;
    start.set(image);
    wrong.value = new Map();
  };
  const useSettings = ({ prompt, options }: GenerateRequest) => {
    fill({ ...emptyForm, prompt, workerApp: form.value.workerApp, ...(options && fieldsOf(options)) }, undefined);
    if (options?.strength !== undefined) {
      start.reject("This image was made from another one, which its file does not contain: choose that one.");
    }
  };
  const check: RequestEditor["check"] = (asked, pass, reject) => {
    const state = start.state.value;
    if (state.kind === "reading") {
      // Without its image, it would be another request than the form shows.
      void start.settled().then(() => start.state.value.kind === "ready" && check(asked, pass, reject));
      return;
    }
    const image = state.kind === "ready" ? state.start : undefined;
    wrong.value = checkForm(asked, rules.value, image !== undefined);
    if (wrong.value.size === 0) {
      pass({ form: asked, start: image });
    } else {
      reject();
    }
  };
  return {
    wrong,
    edit(field, value) {
      form.value = { ...form.value, [field]: value };
      forget(outdatedBy(field));
    },
    async startFrom(file, name) {
      forget(isOfStart);
      if (rules.value.takesImage) {
        await start.read(file, name);
        return;
      }
      const settings = await settingsIn(file);
      if (settings === undefined) {
        start.reject(noImageTaken);
      } else {
        useSettings(settings);
      }
    },
    removeStart() {
      forget(isOfStart);
      start.set(undefined);
    },
    useSettings,
    fill,
    mark(fields) {
      wrong.value = fields;
    },
    check,
  };
}
