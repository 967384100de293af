import { ModelFolderError } from "./folder-reader.js";
import type { SubModelFolder } from "./graph-files.js";
import type { ModelDescription } from "./model-description.js";
import type { GraphSource, ModelSession, OpenSession } from "./sessions.js";

/** The four graphs of a model, loaded and found to have the inputs and outputs that the engine uses. */
export interface SubModels {
  readonly textEncoders: readonly [ModelSession, ModelSession];
  readonly unet: ModelSession;
  readonly vaeDecoder: ModelSession;
}

/**
 * Output of a text encoder with the hidden states that SDXL is conditioned on: those before the last layer, or before as many more layers as
 * are to be skipped.
 */
export function hiddenStatesOutput(layers: number, clipSkip = 0): string {
  return `hidden_states.${layers - 1 - clipSkip}`;
}

/** How many layers more can be skipped: as many as both text encoders have outputs for. */
export function maximumClipSkip(
  { textEncoders }: Pick<ModelDescription, "textEncoders">,
  { textEncoders: sessions }: Pick<SubModels, "textEncoders">,
): number {
  const has = (skip: number): boolean =>
    textEncoders.every(({ num_hidden_layers: layers }, i) =>
      sessions[i]?.outputs.includes(hiddenStatesOutput(layers, skip)),
    );
  let maximum = 0;
  while (has(maximum + 1)) {
    maximum++;
  }
  return maximum;
}

/** Element types that the engine can feed. */
const inputTypes = ["float32", "float16", "float64", "int32", "int64"];

/**
 * Loads the graphs of a model folder.
 *
 * @throws ModelFolderError when one cannot be loaded or has not the inputs and outputs of its part.
 */
export async function openSubModels(
  model: ModelDescription,
  graphs: Readonly<Record<SubModelFolder, GraphSource>>,
  openSession: OpenSession,
): Promise<SubModels> {
  const opened: ModelSession[] = [];
  const open = async (
    subModel: SubModelFolder,
    inputs: readonly string[],
    outputs: readonly string[],
  ): Promise<ModelSession> => {
    const { file } = graphs[subModel];
    const session = await openSession(graphs[subModel]).catch((cause: unknown) => {
      const found = cause instanceof Error ? cause.message : String(cause);
      throw new ModelFolderError(model.path, { file, expected: "a graph that onnxruntime loads", found }, { cause });
    });
    opened.push(session);
    checkGraph(model.path, file, session, inputs, outputs);
    checkWidths(model, file, session);
    return session;
  };
  try {
    const [first, second] = model.textEncoders;
    return {
      textEncoders: [
        await open("text_encoder", ["input_ids"], [hiddenStatesOutput(first.num_hidden_layers)]),
        await open("text_encoder_2", ["input_ids"], [hiddenStatesOutput(second.num_hidden_layers), "text_embeds"]),
      ],
      unet: await open(
        "unet",
        ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids", ...guidanceInputs(model)],
        ["out_sample"],
      ),
      vaeDecoder: await open("vae_decoder", ["latent_sample"], ["sample"]),
    };
  } catch (error) {
    await Promise.all(opened.map((session) => session.release()));
    throw error;
  }
}

/** Additional inputs of a guidance-distilled UNet. */
function guidanceInputs({ unet }: ModelDescription): readonly string[] {
  return typeof unet.time_cond_proj_dim === "number" ? ["timestep_cond"] : [];
}

/** Where a graph fixes the width of an input, it has to be that of the configurations. */
function checkWidths({ path, unet, vae, textEncoders }: ModelDescription, file: string, session: ModelSession): void {
  const widths: Readonly<Record<string, readonly [axis: number, width: number | undefined]>> = {
    sample: [1, unet.in_channels],
    encoder_hidden_states: [2, [unet.cross_attention_dim].flat()[0]],
    text_embeds: [1, textEncoders[1].projection_dim],
    latent_sample: [1, vae.latent_channels],
  };
  for (const [name, [axis, width]] of Object.entries(widths)) {
    const found = session.inputs.get(name)?.shape[axis];
    if (typeof found === "number" && width !== undefined && found !== width) {
      throw new ModelFolderError(path, { file, expected: `${name} of width ${width}`, found: `${found}` });
    }
  }
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
