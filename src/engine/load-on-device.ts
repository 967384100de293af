import { type Device, describePlacement, type Placement, placementsFor, remedyFor } from "./device.js";
import { ModelFolderError } from "./folder-reader.js";
import type { Precision } from "./graph-files.js";
import { readModel } from "./model-folder.js";
import { loadSdxlEngine, type SdxlEngine } from "./sdxl-engine.js";
import type { OpenSession } from "./sessions.js";
import { createSessionOpener, describeRuntime, type SessionOptions } from "./sessions-onnx.js";
import { LoraError, type LoraSource } from "./weights/lora.js";

/** A place where a model could not be run, on the way to one where it can. */
export interface DeviceFailure {
  /** As the user names it, such as `cuda:1`. */
  readonly device: string;
  /** onnxruntime's error message, on one line. */
  readonly reason: string;
  /** What the user can do about it. */
  readonly remedy: string;
}

export interface DeviceLoadOptions {
  readonly modelFolder: string;
  /** @default "cpu" */
  readonly device?: Device | undefined;
  /** @default "auto" */
  readonly precision?: Precision | undefined;
  /** LoRAs that requests can name, each name once. @default none */
  readonly loras?: readonly LoraSource[] | undefined;
  /** See `SdxlEngineOptions`. @default without limit */
  readonly maxMemoryBytes?: number | undefined;
  /** CPU threads of one run. @default as many as the process may use */
  readonly threads?: number | undefined;
  /** Existing folder for a profile of each session; see `SessionOptions`. */
  readonly profileFolder?: string | undefined;
  /** Called with each device that `auto` skips, as soon as it has failed. */
  readonly onFailure?: (failure: DeviceFailure) => void;
  /** Creates the loader of graphs for a device. @default onnxruntime's */
  readonly createOpener?: (options: SessionOptions) => OpenSession;
  /** Providers to try. @default those of this platform's onnxruntime */
  readonly providers?: readonly string[];
}

/** Loaded and warmed-up engine, with the times. */
export interface LoadedEngine {
  readonly engine: SdxlEngine;
  /** Milliseconds, for the device in use only. */
  readonly loadMs: number;
  readonly warmUpMs: number;
}

/**
 * Loads a model and warms it up on the first device that can run it: opens all graphs and generates a small image. A named device is the
 * only one tried; `auto` reports a failure and continues with the next device. All sub-models run on the same device.
 *
 * @throws ModelFolderError when the folder is wrong; LoraError when a LoRA cannot be used; Error that names the device, the reason and the remedy when a named device cannot be
 * used; any error of the CPU.
 */
export async function loadOnDevice(options: DeviceLoadOptions): Promise<LoadedEngine> {
  const { device = "cpu", providers = describeRuntime().providers.map(({ name }) => name), onFailure } = options;
  const placements = placementsFor(device, providers);
  // A fault of the folder is the same on every device.
  const model = await readModel(options.modelFolder);
  for (const [index, placement] of placements.entries()) {
    try {
      return await loadAt(placement, { ...options, model });
    } catch (error) {
      if (placement.provider === "cpu" || isFoldersOwnFault(error)) {
        throw error;
      }
      const failure = describeFailure(placement, error);
      if (index === placements.length - 1) {
        throw new Error(`device ${failure.device} cannot be used: ${failure.reason}; ${failure.remedy}`, {
          cause: error,
        });
      }
      onFailure?.(failure);
    }
  }
  throw new Error(`there is no provider for device ${device}`);
}

type LoadAtOptions = DeviceLoadOptions & { readonly model: Awaited<ReturnType<typeof readModel>> };

/** Loads a model, with `auto` in float32 where the device turns out to have no half precision. */
async function loadAt(placement: Placement, options: LoadAtOptions): Promise<LoadedEngine> {
  try {
    return await loadOnce(placement, options);
  } catch (error) {
    if (!lacksHalfPrecision(error) || (options.precision ?? "auto") !== "auto") {
      throw error;
    }
    return loadOnce(placement, { ...options, precision: "float32" }).catch((second: unknown) => {
      // A folder may have graphs in half precision alone.
      throw isFoldersOwnFault(second) ? error : second;
    });
  }
}

async function loadOnce(placement: Placement, options: LoadAtOptions): Promise<LoadedEngine> {
  const {
    model,
    precision,
    loras,
    maxMemoryBytes,
    threads,
    profileFolder,
    createOpener = createSessionOpener,
  } = options;
  const started = performance.now();
  const engine = await loadSdxlEngine({
    modelFolder: model,
    provider: placement.provider,
    openSession: createOpener({
      placement,
      threads,
      profileFolder,
    }),
    precision,
    loras,
    maxMemoryBytes,
  });
  const loaded = performance.now();
  try {
    await engine.warmUp();
  } catch (error) {
    await engine.release();
    throw error;
  }
  return { engine, loadMs: loaded - started, warmUpMs: performance.now() - loaded };
}

/** Whether files are missing or do not fit together; an error of onnxruntime has a cause. */
function isFoldersOwnFault(error: unknown): boolean {
  return error instanceof LoraError || (error instanceof ModelFolderError && error.cause === undefined);
}

/** Whether a device has no 16-bit floats. onnxruntime finds that out when it makes the first program that has them. */
function lacksHalfPrecision(error: unknown): boolean {
  return /requires f16 but the device does not support it/.test(originalMessage(error));
}

/** onnxruntime's message: the cause of the engine's own error is its. */
function originalMessage(error: unknown): string {
  const original = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return original instanceof Error ? original.message : String(original);
}

function describeFailure(placement: Placement, error: unknown): DeviceFailure {
  return {
    device: describePlacement(placement),
    // Some messages of onnxruntime begin with their source location.
    reason: originalMessage(error)
      .trim()
      .replace(/\s+/g, " ")
      .replace(/^\/\S+:\d+ .*? was false\. /, ""),
    remedy: lacksHalfPrecision(error)
      ? "take --precision float32, or --device cpu"
      : remedyFor(placement.provider, process.platform),
  };
}
