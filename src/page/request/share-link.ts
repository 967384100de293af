import { emptyForm, type FieldName, maxPromptLength, type RequestForm } from "./request-form.js";

/** Names of the fields in a link. */
const names: Readonly<Record<FieldName, string>> = {
  prompt: "prompt",
  negativePrompt: "negative",
  workerApp: "app",
  width: "width",
  height: "height",
  steps: "steps",
  guidance: "guidance",
  seed: "seed",
  scheduler: "scheduler",
};

/** Longest text of a field that is not a prompt. */
const maxValueLength = 128;

/**
 * The form as the fragment of a URL, such as `#prompt=a+red+heart&seed=7`: what the model decides is left out. A fragment stays in the
 * browser: no server, and so no log, sees the prompt.
 */
export function shareFragment(form: RequestForm): string {
  const parameters = new URLSearchParams();
  for (const [field, name] of Object.entries(names) as [FieldName, string][]) {
    if (form[field] !== "") {
      parameters.set(name, form[field]);
    }
  }
  return `#${parameters}`;
}

/**
 * The form that a fragment of {@link shareFragment} asks for; undefined where it asks for none. Whatever else stands in it is ignored, long
 * values are cut, and what the contract does not take is left for the form's check to say.
 */
export function formFromFragment(fragment: string): RequestForm | undefined {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const given = (Object.entries(names) as [FieldName, string][]).flatMap(([field, name]) => {
    const value = parameters.get(name);
    const maxLength = field === "prompt" || field === "negativePrompt" ? maxPromptLength : maxValueLength;
    return value === null ? [] : [[field, [...value].slice(0, maxLength).join("")] as const];
  });
  return given.length === 0 ? undefined : { ...emptyForm, ...Object.fromEntries(given) };
}
