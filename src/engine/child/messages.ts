import type { Device } from "../device.js";
import type {
  EngineInfo,
  FieldViolation,
  GeneratedImage,
  GenerationErrorKind,
  GenerationEvent,
  GenerationRequest,
} from "../engine.js";
import type { ModelFolderFault } from "../folder-reader.js";
import type { GraphFiles, Precision } from "../graph-files.js";
import type { DeviceFailure } from "../load-on-device.js";
import type { EngineNotes } from "../sdxl-engine.js";
import type { LoraSource } from "../weights/lora.js";

/*
 * Messages between the engine's process and its host, over the channel that `fork` makes with
 * `serialization: "advanced"`: typed arrays travel as such.
 */

/** From the host. */
export type HostMessage =
  /** The first message, once. */
  | ({ readonly kind: "load" } & LoadOrder)
  /** Begins when the image before has ended. Ids are the host's and never come twice. */
  | { readonly kind: "generate"; readonly id: number; readonly request: GenerationRequest }
  /** Stop before the next run of a sub-model. */
  | { readonly kind: "cancel"; readonly id: number }
  /** Stop and exit. */
  | { readonly kind: "close" };

/** Which model to load, and where. Absent: the engine's own defaults. */
export interface LoadOrder {
  readonly modelFolder: string;
  readonly device?: Device | undefined;
  readonly precision?: Precision | undefined;
  /** LoRAs that requests can name, each name once. */
  readonly loras?: readonly LoraSource[] | undefined;
  /** Resident bytes above which the process is to release what it can do without. */
  readonly maxMemoryBytes?: number | undefined;
  /** CPU threads of one run. */
  readonly threads?: number | undefined;
  /** Existing folder for a profile of each session, complete when the process has closed. */
  readonly profileFolder?: string | undefined;
}

/** About one image: any number of events, then one of the others. */
export type GenerateMessage =
  | { readonly kind: "event"; readonly id: number; readonly event: GenerationEvent }
  | { readonly kind: "done"; readonly id: number; readonly image: GeneratedImage; readonly memoryBytes: number }
  | { readonly kind: "cancelled"; readonly id: number }
  | { readonly kind: "failed"; readonly id: number; readonly error: GenerationFailure };

/** From the engine's process. */
export type EngineMessage = DeviceFailedMessage | ReadyMessage | LoadFailedMessage | GenerateMessage;

/** Before the model is ready or has failed: a device that failed. */
export interface DeviceFailedMessage {
  readonly kind: "device-failed";
  readonly failure: DeviceFailure;
}

export interface ReadyMessage {
  readonly kind: "ready";
  readonly info: EngineInfo;
  readonly graphs: GraphFiles;
  readonly notes: EngineNotes;
  readonly startUp: StartUpTimes;
  /** Resident memory of the process, as after each image. */
  readonly memoryBytes: number;
}

export interface LoadFailedMessage {
  readonly kind: "load-failed";
  readonly message: string;
  /** Where it was a ModelFolderError. */
  readonly fault?: ModelFolderFault & { readonly folder: string };
}

/** How long the engine's process took to get ready, in milliseconds. */
export interface StartUpTimes {
  readonly loadMs: number;
  readonly warmUpMs: number;
}

/** A GenerationError as data: errors of own classes lose their class between processes. */
export interface GenerationFailure {
  readonly kind: GenerationErrorKind;
  readonly message: string;
  readonly violations: readonly FieldViolation[];
  /** Text of the cause, with its stack: for the log only. */
  readonly cause?: string;
}

export function isHostMessage(value: unknown): value is HostMessage {
  return hasKind(value, ["load", "generate", "cancel", "close"]);
}

export function isEngineMessage(value: unknown): value is EngineMessage {
  return hasKind(value, ["device-failed", "ready", "load-failed", "event", "done", "cancelled", "failed"]);
}

function hasKind(value: unknown, kinds: readonly string[]): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    "kind" in value &&
    typeof value.kind === "string" &&
    kinds.includes(value.kind)
  );
}
