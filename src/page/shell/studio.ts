import { computed, signal as createSignal, effect, type ReadonlySignal, type Signal } from "@preact/signals";
import type { GenerateRequest, GenerateResponse, Model } from "../../contracts/contracts.js";
import type { Job } from "../../gen/throughline/v1/job_pb.js";
import { entryOfResponse } from "../image/entry-of-response.js";
import type { History, HistoryEntry } from "../image/history.js";
import type { JobEntry } from "../jobs/job-entry.js";
import { askOf } from "../jobs/job-form.js";
import { createJobs, type Jobs } from "../jobs/jobs.js";
import { createOpenedJob, type OpenedJob } from "../jobs/opened-job.js";
import { defaultsOf, type FormDefaults, type FormRules, numberRules, rulesOf } from "../request/form-rules.js";
import { type Asked, createGeneration, type Generation } from "../request/generation.js";
import { createRequestEditor } from "../request/request-editor.js";
import { emptyForm, type FieldName, type FormField, type RequestForm } from "../request/request-form.js";
import { createStartChoice, type PrepareImage, type StartChoice } from "../request/start-image.js";
import type { UserError } from "../request/user-error.js";
import type { Clients } from "../service/clients.js";
import { type Connection, createConnection } from "../service/connection.js";
import { createModels, type Models } from "../service/models.js";
import { createTraceWatch, type TraceWatch } from "../trace/trace-watch.js";
import { type AppChoice, appsOf } from "./app-choices.js";

/** State and actions of the page, without its rendering. */
export interface Studio {
  readonly form: Signal<RequestForm>;
  /** A message for each wrong field of the form as it was last sent, without the fields changed since. */
  readonly wrong: ReadonlySignal<ReadonlyMap<FieldName, string>>;
  readonly models: Models;
  /** The apps that can be chosen, the default one first. */
  readonly apps: ReadonlySignal<readonly AppChoice[]>;
  /** Model of the chosen app; undefined for an unknown one. */
  readonly model: ReadonlySignal<Model | undefined>;
  /** What the form's fields take: the model's limits, or the contract's for an unknown model. */
  readonly rules: ReadonlySignal<FormRules>;
  /** Values that empty fields take, as far as known. */
  readonly defaults: ReadonlySignal<FormDefaults>;
  /** The image that the next request starts from. */
  readonly start: StartChoice;
  readonly generation: Generation;
  readonly jobs: Jobs;
  readonly openedJob: OpenedJob;
  readonly connection: Connection;
  readonly traces: TraceWatch;
  readonly history: History;
  /** The image in the frame while none is being generated. */
  readonly shown: ReadonlySignal<HistoryEntry | undefined>;
  /** Id of the span whose details are shown. */
  readonly selectedSpan: Signal<string | undefined>;
  /** Whether the service needs an API key. */
  readonly needsKey: ReadonlySignal<boolean>;
  /** Changes a field. */
  edit(field: FormField, value: string): void;
  /** Starts the next images from a file. One that the model does not take is rejected. */
  startFrom(file: Blob, name: string): Promise<void>;
  removeStart(): void;
  /** Fills the form with what an image was generated from, and starts from no image unless it did. */
  useSettings(settings: GenerateRequest): void;
  /** Sends the form, unless something is wrong with it. */
  generate(): void;
  cancel(): void;
  /** Submits the form as a job, unless something is wrong with it. */
  submitJob(): void;
  /** Shows a job's progress or image with its trace. */
  openJob(job: Job): void;
  /** Fills the form with what a job was asked for. */
  fillFromJob(job: Job): void;
  /** Shows an old image with its trace. */
  show(entry: HistoryEntry): void;
  /** Generates an image anew, with its seed or with another one. */
  regenerate(entry: HistoryEntry, seed: "same" | "other"): void;
  /** Keeps the seed for the next images, or has each draw its own. */
  lockSeed(locked: boolean): void;
  /** Looks at a trace. */
  lookAt(traceId: string): void;
  /** Continues with a new API key. */
  keyChanged(): void;
}

/** Options of {@link createStudio}. */
export interface StudioOptions extends Clients {
  readonly history: History;
  /** The form to begin with. */
  readonly form: RequestForm | undefined;
  /** The trace to begin with, as a link names it. */
  readonly traceId?: string | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** 0 to 1. */
  readonly random: () => number;
  readonly makeThumbnail: (image: Blob) => Promise<Blob>;
  readonly prepareImage: PrepareImage;
  /** Fetches the images of jobs. */
  readonly fetch: (url: string) => Promise<Response>;
  /** A new id that nobody else makes. */
  readonly newId: () => string;
  /** Maximum number of jobs with a stream of their own. */
  readonly maxWatchedJobs: number;
  /** Whether the panel of the jobs is open at first. */
  readonly areJobsOpen: boolean;
}

/** Creates the studio's state. */
export function createStudio(options: StudioOptions): Studio {
  const { pipeline, studio, history, now, random, makeThumbnail, prepareImage } = options;
  const form = createSignal(options.form ?? emptyForm);
  const shown = createSignal(history.entries.value[0]);
  const selectedSpan = createSignal<string | undefined>(undefined);
  const connection = createConnection({ client: studio, now, random });
  const traces = createTraceWatch({ client: studio, now, random });
  const models = createModels({ client: pipeline, connection });
  const apps = computed(() => appsOf(connection.offer.value?.workerApps ?? [], models.list.value));
  const appId = computed(() => form.value.workerApp || apps.value[0]?.appId);
  const model = computed(() =>
    models.list.value.find(({ workerApp, name }) => workerApp === appId.value && name !== ""),
  );
  const scheduler = computed(() => form.value.scheduler);
  const rules = computed(() => rulesOf(model.value, scheduler.value));
  const defaults = computed(() => defaultsOf(model.value, scheduler.value));

  const start = createStartChoice(prepareImage);
  const editor = createRequestEditor({ form, start, rules });

  const lookAt = (traceId: string) => {
    if (traceId !== "" && connection.offer.value?.hasTraces === true) {
      traces.select(traceId);
    }
  };

  const keep = async (asked: Asked, response: GenerateResponse, elapsedMs: number): Promise<void> => {
    const entry = await entryOfResponse(asked, response, { nowMs: now(), elapsedMs, makeThumbnail });
    if (entry !== undefined) {
      openedJob.close();
      shown.value = entry;
      await history.add(entry);
    }
  };

  const jobs = createJobs({
    client: options.jobs,
    connection,
    isOpen: options.areJobsOpen,
    maxWatched: options.maxWatchedJobs,
    now,
    random,
    newId: options.newId,
    onChange: ({ job }: JobEntry) => traces.resume(job.traceId),
    onRemoved(id) {
      if (shown.peek()?.id === id) {
        shown.value = history.entries.peek()[0];
      }
    },
  });
  const openedJob = createOpenedJob({
    client: options.jobs,
    jobs,
    fetch: options.fetch,
    makeThumbnail,
    onImage(entry) {
      shown.value = entry;
    },
  });

  const generation = createGeneration({
    client: pipeline,
    now,
    onTrace: lookAt,
    onDone(asked, response, elapsedMs) {
      lookAt(response.traceId);
      void keep(asked, response, elapsedMs);
      // Its worker was not there when the models were listed.
      if (models.list.peek().some(({ workerApp, name }) => workerApp === appId.peek() && name === "")) {
        models.refresh();
      }
    },
  });

  // Violations that the service reports are marked at their fields, like the page's own.
  for (const state of [generation.state, jobs.submission.state]) {
    effect(() => {
      if (state.value.kind === "failed") {
        editor.mark(state.value.problem.fields);
      }
    });
  }
  // Once the service is back, the failure of a request that could not reach it is out of date.
  effect(() => {
    const isLive = connection.state.value.kind === "live";
    const state = generation.state.peek();
    if (isLive && state.kind === "failed" && state.problem.connectionLost) {
      generation.forget();
    }
  });
  // Another trace has other spans; an update of the same trace keeps the choice.
  const watchedId = computed(() => traces.trace.value?.traceId);
  effect(() => {
    watchedId.value;
    selectedSpan.value = undefined;
  });

  // A link to a trace wins over the trace of the newest image.
  effect(() => {
    if (
      options.traceId !== undefined &&
      connection.offer.value?.hasTraces === true &&
      traces.trace.peek() === undefined
    ) {
      traces.select(options.traceId);
    }
  });
  // The image that is there when the page opens has its trace beside it too, where the collector still has it.
  effect(() => {
    const traceId = shown.value?.traceId;
    if (traces.trace.peek() === undefined && connection.traces.value.some((each) => each.traceId === traceId)) {
      traces.select(traceId ?? "");
    }
  });

  const send = (asked: RequestForm) => {
    openedJob.close();
    editor.check(asked, (passed) => void generation.start(passed.form, passed.start), generation.forget);
  };
  const submitJob = () =>
    editor.check(form.value, (passed) => void jobs.submission.submit(passed), jobs.submission.forget);

  return {
    form,
    wrong: editor.wrong,
    models,
    apps,
    model,
    rules,
    defaults,
    start,
    generation,
    jobs,
    openedJob,
    connection,
    traces,
    history,
    shown,
    selectedSpan,
    needsKey: computed(
      () =>
        connection.state.value.kind === "locked" ||
        [generation.state.value, jobs.submission.state.value, jobs.list.state.value].some(lacksKey),
    ),
    edit: editor.edit,
    startFrom: editor.startFrom,
    removeStart: editor.removeStart,
    useSettings: editor.useSettings,
    generate: () => send(form.value),
    cancel: generation.cancel,
    submitJob,
    openJob(job) {
      openedJob.open(job.id);
      lookAt(job.traceId);
      traces.resume(job.traceId);
    },
    fillFromJob(job) {
      const { form: asked, hasStart } = askOf(job);
      const image = jobs.submission.startOf(job.id);
      editor.fill(asked, image);
      if (hasStart && image === undefined) {
        start.reject("The job started from an image that the service does not return: choose it again.");
      }
    },
    show(entry) {
      openedJob.close();
      shown.value = entry;
      lookAt(entry.traceId);
    },
    regenerate(entry, seed) {
      start.set(entry.start);
      form.value = { ...entry.form, seed: seed === "same" ? String(entry.seed) : "" };
      send(form.value);
    },
    lockSeed(locked) {
      const drawn = () => Math.floor(random() * (numberRules.seed.max + 1));
      form.value = { ...form.value, seed: locked ? String(shown.value?.seed ?? drawn()) : "" };
    },
    lookAt,
    keyChanged() {
      connection.retry();
      jobs.list.retry();
      if (lacksKey(generation.state.value)) {
        send(form.value);
      }
      if (lacksKey(jobs.submission.state.value)) {
        submitJob();
      }
    },
  };
}

/** Whether something failed for want of a key. */
function lacksKey(
  state: { readonly kind: string } | { readonly kind: "failed"; readonly problem: UserError },
): boolean {
  return "problem" in state && state.problem.needsKey;
}
