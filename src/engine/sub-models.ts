import { join } from "node:path";
import type { GraphFiles } from "./graph-files.js";
import type { ModelFolder } from "./model-folder.js";
import { ModelFolderError } from "./model-folder-error.js";
import type { ModelSession, OpenSession } from "./sessions.js";

/** The four graphs of a model, loaded and found to have the inputs and outputs that the engine uses. */
export interface SubModels {
  readonly textEncoders: readonly [ModelSession, ModelSession];
  readonly unet: ModelSession;
  readonly vaeDecoder: ModelSession;
}

/** Output of a text encoder with its hidden states before the last layer, which SDXL is conditioned on. */
export function penultimateOutput(layers: number): string {
  return `hidden_states.${layers - 1}`;
}

/** Element types that the engine can feed. */
const inputTypes = ["float32", "float16", "float64", "int32", "int64"];

/**
 * Loads the graphs of a model folder.
 *
 * @throws ModelFolderError when one cannot be loaded or has not the inputs and outputs of its part.
 */
export async function openSubModels(
  model: ModelFolder,
  files: GraphFiles,
  openSession: OpenSession,
): Promise<SubModels> {
  const opened: ModelSession[] = [];
  const open = async (file: string, inputs: readonly string[], outputs: readonly string[]): Promise<ModelSession> => {
    const session = await openSession(join(model.path, file)).catch((cause: unknown) => {
      const found = cause instanceof Error ? cause.message : String(cause);
      throw new ModelFolderError(model.path, { file, expected: "a graph that onnxruntime loads", found }, { cause });
    });
    opened.push(session);
    checkGraph(model.path, file, session, inputs, outputs);
    return session;
  };
  try {
    const [first, second] = model.textEncoders;
    return {
      textEncoders: [
        await open(files.text_encoder, ["input_ids"], [penultimateOutput(first.num_hidden_layers)]),
        await open(files.text_encoder_2, ["input_ids"], [penultimateOutput(second.num_hidden_layers), "text_embeds"]),
      ],
      unet: await open(
        files.unet,
        ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids", ...guidanceInputs(model)],
        ["out_sample"],
      ),
      vaeDecoder: await open(files.vae_decoder, ["latent_sample"], ["sample"]),
    };
  } catch (error) {
    await Promise.all(opened.map((session) => session.release()));
    throw error;
  }
}

/** What a UNet takes besides that was distilled to guide itself. */
function guidanceInputs({ unet }: ModelFolder): readonly string[] {
  return typeof unet.time_cond_proj_dim === "number" ? ["timestep_cond"] : [];
}

function checkGraph(
  folder: string,
  file: string,
  session: ModelSession,
  inputs: readonly string[],
  outputs: readonly string[],
): void {
  const list = (names: Iterable<string>): string => [...names].join(", ");
  for (const [name, { type }] of session.inputs) {
    if (!inputs.includes(name)) {
      throw new ModelFolderError(folder, { file, expected: `no inputs but ${list(inputs)}`, found: name });
    }
    if (!inputTypes.includes(type)) {
      throw new ModelFolderError(folder, { file, expected: `${name} of type ${inputTypes.join(", ")}`, found: type });
    }
  }
  for (const name of inputs) {
    if (!session.inputs.has(name)) {
      throw new ModelFolderError(folder, { file, expected: `an input ${name}`, found: list(session.inputs.keys()) });
    }
  }
  for (const name of outputs) {
    if (!session.outputs.includes(name)) {
      throw new ModelFolderError(folder, { file, expected: `an output ${name}`, found: list(session.outputs) });
    }
  }
}
