import { dirname, parse } from "node:path";
import type { ExecutionProvider } from "./device.js";
import { type BuiltGraph, type ComputeType, createGraphBuilder, type GraphBuilder } from "./graphs/graph-builder.js";
import { operatorsFor } from "./graphs/operators.js";
import type { BuiltGraphSource } from "./sessions.js";
import type { WeightFolder } from "./weights/diffusers-weights.js";
import { type Lora, LoraError, type LoraLayers, type LoraSource, readLora } from "./weights/lora.js";
import { type LoraPart, loraParts } from "./weights/lora-names.js";
import { hasChanged, type WeightSource } from "./weights/tensor-location.js";

/** A LoRA that is ready to be used, for the log. */
export interface LoraNote {
  readonly name: string;
  /** Scale for requests without one. */
  readonly scale: number;
  /** Weights that it changes, and the sub-models that they are of. */
  readonly layers: number;
  readonly subModels: readonly LoraPart[];
  /** Bytes of its file. */
  readonly bytes: number;
}

/** The LoRAs of a model, fitted to its layers. */
export interface LoraGraphs {
  /** All of them, in the operator's order. */
  readonly notes: readonly LoraNote[];
  /** Whether a LoRA changes a text encoder. */
  changesText(name: string): boolean;
  /** Builds the graphs of the sub-models that some of these LoRAs change. The inputs with their scales are in the order of the names. */
  build(names: readonly string[]): readonly BuiltGraphSource[];
  /** Bytes of the model's weights that the graphs of these LoRAs map once more. */
  mappedBytes(names: readonly string[]): number;
  /** @throws LoraError when the file of one was replaced or changed since it was read. */
  checkUnchanged(names: readonly string[]): Promise<void>;
}

export interface LoraGraphsOptions {
  readonly weights: Readonly<Record<WeightFolder, WeightSource>>;
  readonly builders: Readonly<Record<LoraPart, (g: GraphBuilder) => BuiltGraph>>;
  /** Layers of the graphs without LoRAs. */
  readonly layers: LoraLayers;
  readonly compute: ComputeType;
  readonly provider: ExecutionProvider;
}

/**
 * Reads LoRAs and fits them to the layers of a model.
 *
 * @throws LoraError for the first one that cannot be used.
 */
export async function readLoras(sources: readonly LoraSource[], options: LoraGraphsOptions): Promise<LoraGraphs> {
  const { weights, builders, layers, compute, provider } = options;
  const operators = operatorsFor(provider);
  const loras = new Map<string, Lora>();
  for (const source of sources) {
    const lora = await readLora(source, layers);
    checkDrive(lora, weights);
    loras.set(source.name, lora);
  }
  const named = (names: readonly string[]): Lora[] =>
    names.map((name) => {
      const lora = loras.get(name);
      if (lora === undefined) {
        throw new Error(`no LoRA ${name}, which the limits name`);
      }
      return lora;
    });
  return {
    notes: [...loras.values()].map(describe),
    changesText: (name) => named([name]).some(changesText),
    build(names) {
      const wanted = named(names);
      return loraParts
        .filter((part) => wanted.some(({ changes }) => changes[part].size > 0))
        .map((part) => {
          const source = weights[part];
          // The one folder that the files of the model and of all LoRAs lie below.
          const { root } = parse(dirname(source.files[0]?.path ?? "/"));
          const changes = wanted.map((lora) => lora.changes[part]);
          const graph = createGraphBuilder({ weights: source, compute, root, loras: changes, operators });
          const built = builders[part](graph);
          return {
            kind: "built",
            subModel: part,
            file: source.label,
            model: built.model,
            root,
            // Prepared weights would be a copy for each set of LoRAs, and what a LoRA changes cannot be prepared.
            residence: provider === "cpu" ? "mapped" : "prepared",
          } satisfies BuiltGraphSource;
        });
    },
    mappedBytes(names) {
      const wanted = named(names);
      const parts = loraParts.filter((part) => wanted.some(({ changes }) => changes[part].size > 0));
      return parts.flatMap((part) => weights[part].tensors).reduce((sum, { length }) => sum + length, 0);
    },
    async checkUnchanged(names) {
      for (const lora of named(names)) {
        if (await hasChanged(lora.weights)) {
          throw new LoraError(lora, "the file was replaced since the worker read it; start the worker again");
        }
      }
    },
  };
}

/** @throws LoraError when files are on drives of Windows that no folder has in common. */
function checkDrive(lora: Lora, weights: LoraGraphsOptions["weights"]): void {
  const drives = new Set(
    loraParts.flatMap((part) => weights[part].files.map(({ path }) => parse(path).root.toLowerCase())),
  );
  const { root } = parse(lora.weights.path);
  if (!drives.has(root.toLowerCase())) {
    throw new LoraError(lora, `expected a file on the drive of the model, ${[...drives].join(", ")}; move it there`);
  }
}

function changesText({ changes }: Lora): boolean {
  return changes.text_encoder.size + changes.text_encoder_2.size > 0;
}

function describe(lora: Lora): LoraNote {
  const { name, scale, changes, weights } = lora;
  const layers = loraParts.reduce((sum, part) => sum + changes[part].size, 0);
  return { name, scale, layers, subModels: loraParts.filter((part) => changes[part].size > 0), bytes: weights.size };
}

/** LoRAs of exported graphs: none. @throws LoraError when some are wanted */
export function rejectLoras([first]: readonly LoraSource[], model: string): void {
  if (first !== undefined) {
    const reason = `the model ${model} is of exported ONNX graphs, which LoRAs cannot change`;
    throw new LoraError(first, `${reason}; take a model of safetensors, or leave --lora and --lora-folder out`);
  }
}
