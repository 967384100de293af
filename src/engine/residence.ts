import { freemem } from "node:os";
import type { ExecutionProvider } from "./device.js";
import type { Precision, SubModelFolder } from "./graph-files.js";
import type { Residence } from "./graph-source.js";
import type { WeightFolder } from "./weights/diffusers-weights.js";
import { parametersOf, type WeightSource } from "./weights/tensor-location.js";

export interface ResidenceOptions {
  readonly precision: Precision;
  readonly provider: ExecutionProvider;
  /** Bytes of memory that the process may take. @default what the machine, or its container, has free */
  readonly availableBytes?: number | undefined;
}

/** Where each part's weights are to be, and what that was decided by. */
export interface ResidencePlan {
  readonly residence: (subModel: SubModelFolder) => Residence;
  /** In words, for the log. */
  readonly reason: string;
}

/** What a model of that many parameters loads as fast either way, so that the faster form costs nothing. */
const smallParameters = 200e6;
/** Of the free memory, what weights may take; the rest is for images, and for the rest of the machine. */
const memoryShare = 0.6;

/**
 * Decides where the weights of each part are while the model is loaded, on a CPU. `auto` prepares what is small, and leaves what is of
 * SDXL's own size in its files: there a prepared UNet takes 10.8 GB instead of 0.3 and five times as long to load, for a twentieth of a
 * step's time (docs/full-size.md).
 */
export function planResidence(
  weights: Readonly<Record<WeightFolder, WeightSource>>,
  { precision, provider, availableBytes = process.availableMemory?.() ?? freemem() }: ResidenceOptions,
): ResidencePlan {
  if (provider !== "cpu") {
    return { residence: () => "prepared", reason: `in the memory of ${provider}` };
  }
  const parameters = Object.values(weights).reduce((sum, { tensors }) => sum + parametersOf(tensors), 0);
  const needed = 4 * parameters;
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  const mapped = (why: string): ResidencePlan => ({
    residence: () => "mapped",
    reason: `weights in their files: ${why}`,
  });
  const prepared = (why: string): ResidencePlan => ({
    residence: () => "prepared",
    reason: `float32 weights in memory, ${gigabytes(needed)}: ${why}`,
  });
  if (precision === "float32") {
    return prepared("--precision float32");
  }
  if (precision === "float16") {
    return mapped("--precision float16");
  }
  return parameters <= smallParameters && needed <= memoryShare * availableBytes
    ? prepared("a small model")
    : mapped(`${gigabytes(needed)} as float32 in memory would be hardly faster`);
}
