import type { Client } from "@connectrpc/connect";
import { signal as createSignal, type ReadonlySignal } from "@preact/signals";
import { type GenerateResponse, type ImagePipelineService, type Progress, Stage } from "../../contracts/contracts.js";
import { type RequestForm, requestOf } from "./request-form.js";
import type { StartImage } from "./start-image.js";
import { noImage, type UserError, userErrorOf } from "./user-error.js";

/** How far a request that runs is. */
export interface Running {
  readonly kind: "running";
  readonly phase:
    | { readonly kind: "sent" }
    | {
        readonly kind: "queued";
        readonly position: number;
        readonly estimatedWaitMs: number;
        /** No worker serves: the wait ends when one starts. */
        readonly noWorker?: boolean | undefined;
      }
    | { readonly kind: "stage"; readonly stage: Stage };
  /** Steps that are done; 0 before the first. */
  readonly step: number;
  /** 0 until it is known. */
  readonly totalSteps: number;
  readonly marks: readonly StepMark[];
  /** The newest sight of the image. */
  readonly preview: { readonly bytes: Uint8Array; readonly contentType: string } | undefined;
}

/** Where the page's one request is. */
export type GenerationState =
  | { readonly kind: "idle" }
  | Running
  | { readonly kind: "done"; readonly response: GenerateResponse; readonly elapsedMs: number }
  | { readonly kind: "cancelled"; readonly running: Running }
  | { readonly kind: "failed"; readonly problem: UserError };

/** Generates, one image at a time. */
export interface Generation {
  readonly state: ReadonlySignal<GenerationState>;
  /** Milliseconds that came after the last step of the last image: what to expect of the next. */
  readonly tailMs: ReadonlySignal<number>;
  /** Sends a request, and cancels the one before. Resolves when it has ended, in whatever way. */
  start(form: RequestForm, start?: StartImage): Promise<void>;
  /** Ends the call; the service stops before its next step. */
  cancel(): void;
  /** Forgets how the last request ended. */
  forget(): void;
}

/** What a request asked for. */
export interface Asked {
  readonly form: RequestForm;
  readonly start: StartImage | undefined;
}

/** What a generation needs. */
export interface GenerationOptions {
  readonly client: Client<typeof ImagePipelineService>;
  /** Milliseconds by a clock that only goes forward. */
  readonly now: () => number;
  /** Called with the trace id of the request, as soon as it is known. */
  readonly onTrace: (traceId: string) => void;
  /** Called with the finished image, the form of its request and the image that it started from. */
  readonly onDone: (asked: Asked, response: GenerateResponse, elapsedMs: number) => void;
}

/** A request that nothing is known of yet. */
export const sent: Running = {
  kind: "running",
  phase: { kind: "sent" },
  step: 0,
  totalSteps: 0,
  marks: [],
  preview: undefined,
};

/** The page's own requests. */
export function createGeneration({ client, now, onTrace, onDone }: GenerationOptions): Generation {
  const state = createSignal<GenerationState>({ kind: "idle" });
  const tailMs = createSignal(0);
  let current = new AbortController();

  const run = async (asked: Asked, signal: AbortSignal): Promise<void> => {
    const startedAt = now();
    let running = sent;
    const show = (updates: GenerationState) => {
      // A newer request has replaced this one.
      if (!signal.aborted) {
        state.value = updates;
      }
    };
    show(running);
    const onHeader = (headers: Headers) => {
      const traceId = traceIdOf(headers.get("traceresponse"));
      if (traceId !== undefined) {
        onTrace(traceId);
      }
    };
    const initImage = asked.start && new Uint8Array(await asked.start.image.arrayBuffer());
    const request = requestOf(asked.form, initImage);
    for await (const { event } of client.generateStream({ request }, { signal, onHeader })) {
      switch (event.case) {
        case "queued": {
          const { position, estimatedWaitMs } = event.value;
          running = { ...running, phase: { kind: "queued", position, estimatedWaitMs } };
          show(running);
          break;
        }
        case "progress":
          running = advance(running, event.value, now());
          show(running);
          break;
        case "result": {
          const elapsedMs = now() - startedAt;
          tailMs.value = (event.value.timings?.vaeDecodeMs ?? 0) + (event.value.timings?.uploadMs ?? 0);
          show({ kind: "done", response: event.value, elapsedMs });
          onDone(asked, event.value, elapsedMs);
          break;
        }
        case undefined:
          break;
      }
    }
  };

  return {
    state,
    tailMs,
    async start(form, start) {
      current.abort();
      const mine = new AbortController();
      current = mine;
      try {
        await run({ form, start }, mine.signal);
      } catch (error) {
        if (!mine.signal.aborted) {
          state.value = { kind: "failed", problem: userErrorOf(error) };
        }
      }
      // A service that ends the stream without a result, and without an error, breaks the contract.
      if (mine === current && state.value.kind === "running") {
        state.value = { kind: "failed", problem: noImage };
      }
    },
    cancel() {
      current.abort();
      if (state.value.kind === "running") {
        state.value = { kind: "cancelled", running: state.value };
      }
    },
    forget() {
      if (state.value.kind !== "running") {
        state.value = { kind: "idle" };
      }
    },
  };
}

/** How far a request is after a report of its progress. */
export function advance(running: Running, progress: Progress, nowMs: number): Running {
  const { stage, step, totalSteps, preview, previewContentType } = progress;
  const denoising = stage === Stage.DENOISING;
  return {
    kind: "running",
    phase: { kind: "stage", stage },
    step: denoising ? step : running.step,
    totalSteps: denoising ? totalSteps : running.totalSteps,
    marks: denoising ? [...running.marks, { step, atMs: nowMs }] : running.marks,
    preview: preview.length > 0 ? { bytes: preview, contentType: previewContentType } : running.preview,
  };
}

/**
 * The trace id of a `traceresponse` header, such as `00-4e59a70947e16460dd0641a9b92f3047-00f067aa0ba902b7-01`; undefined where there is none
 * to read. {@link https://w3c.github.io/trace-context/#traceresponse-header}
 */
export function traceIdOf(header: string | null): string | undefined {
  const id = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(header ?? "")?.[1];
  return id === undefined || /^0+$/.test(id) ? undefined : id;
}

/** A denoising step that was done, and when. */
export interface StepMark {
  readonly step: number;
  /** By any clock that only goes forward. */
  readonly atMs: number;
}

/** Steps that the pace is taken from: the last ones, because the first is slower and a busy machine changes its mind. */
const paceSteps = 8;

/**
 * Estimated milliseconds until the image is complete, from the pace of the last steps; undefined before the second mark.
 *
 * @param marks of this generation, in order.
 * @param tailMs what comes after the last step: decoding and encoding.
 */
export function timeLeftMs(
  marks: readonly StepMark[],
  totalSteps: number,
  tailMs: number,
  nowMs: number,
): number | undefined {
  const last = marks.at(-1);
  const first = marks.at(-Math.min(marks.length, paceSteps + 1));
  if (last === undefined || first === undefined || last.step <= first.step) {
    return undefined;
  }
  const stepMs = (last.atMs - first.atMs) / (last.step - first.step);
  return Math.max(0, (totalSteps - last.step) * stepMs + tailMs - (nowMs - last.atMs));
}
