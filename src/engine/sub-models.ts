import { ModelFolderError } from "./folder-reader.js";
import type { PerSubModel } from "./graph-files.js";
import type { ModelDescription } from "./model-description.js";
import type { GraphSource, ModelSession, OpenSession } from "./sessions.js";

/** The graphs that every image needs, loaded and found to have the inputs and outputs that the engine uses. */
export interface SubModels {
  readonly textEncoders: readonly [ModelSession, ModelSession];
  readonly unet: ModelSession;
  readonly vaeDecoder: ModelSession;
  /** The VAE's encoder, which only requests with an image need, so that it is loaded by the first of them. */
  readonly vaeEncoder:
    | { readonly kind: "ready"; readonly open: () => Promise<ModelSession> }
    | { readonly kind: "unusable"; readonly reason: string }
    | { readonly kind: "none" };
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

/** Red, green and blue. */
const imageChannels = 3;

/** Element types that the engine can feed. */
const inputTypes = ["float32", "float16", "float64", "int32", "int64"];

/**
 * Loads the graphs of a model folder.
 *
 * @throws ModelFolderError when one cannot be loaded or has not the inputs and outputs of its part.
 */
export async function openSubModels(
  model: ModelDescription,
  graphs: PerSubModel<GraphSource>,
  openSession: OpenSession,
): Promise<SubModels> {
  const opened: ModelSession[] = [];
  const open = async (graph: GraphSource, inputs: readonly string[], outputs: readonly string[]) => {
    const session = await openGraph(model, graph, openSession);
    opened.push(session);
    checkGraph(model.path, graph.file, session, inputs, outputs);
    checkWidths(model, graph, session);
    return session;
  };
  try {
    const [first, second] = model.textEncoders;
    return {
      textEncoders: [
        await open(graphs.text_encoder, ["input_ids"], [hiddenStatesOutput(first.num_hidden_layers)]),
        await open(graphs.text_encoder_2, ["input_ids"], [hiddenStatesOutput(second.num_hidden_layers), "text_embeds"]),
      ],
      unet: await open(
        graphs.unet,
        ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids", ...guidanceInputs(model)],
        ["out_sample"],
      ),
      vaeDecoder: await open(graphs.vae_decoder, ["latent_sample"], ["sample"]),
      vaeEncoder: await findVaeEncoder(model, graphs.vae_encoder, openSession),
    };
  } catch (error) {
    await Promise.all(opened.map((session) => session.release()));
    throw error;
  }
}

async function openGraph({ path }: ModelDescription, graph: GraphSource, open: OpenSession): Promise<ModelSession> {
  return open(graph).catch((cause: unknown) => {
    const found = cause instanceof Error ? cause.message : String(cause);
    const fault = { file: graph.file, expected: "a graph that onnxruntime loads", found };
    throw new ModelFolderError(path, fault, { cause });
  });
}

/** Mean and variance of the latents, which the engine draws from with the request's seed. */
const encoderOutput = "latent_parameters";

async function findVaeEncoder(
  model: ModelDescription,
  graph: GraphSource | undefined,
  openSession: OpenSession,
): Promise<SubModels["vaeEncoder"]> {
  if (graph === undefined) {
    return { kind: "none" };
  }
  const open = async (): Promise<ModelSession> => {
    const session = await openGraph(model, graph, openSession);
    try {
      checkGraph(model.path, graph.file, session, ["sample"], [encoderOutput]);
      checkWidths(model, graph, session);
      return session;
    } catch (error) {
      await session.release();
      throw error;
    }
  };
  if (graph.kind === "exported") {
    // Only the file itself shows what its graph puts out.
    const session = await openGraph(model, graph, openSession);
    await session.release();
    if (!session.outputs.includes(encoderOutput)) {
      const reason = `${graph.file} has no output ${encoderOutput}, since it draws noise of its own: image to image needs an export of a newer optimum`;
      return { kind: "unusable", reason };
    }
  }
  return { kind: "ready", open };
}

/** Additional inputs of a guidance-distilled UNet. */
function guidanceInputs({ unet }: ModelDescription): readonly string[] {
  return typeof unet.time_cond_proj_dim === "number" ? ["timestep_cond"] : [];
}

/** Where a graph fixes the width of an input, it has to be that of the configurations. */
function checkWidths(
  { path, unet, vae, textEncoders }: ModelDescription,
  { file, subModel }: GraphSource,
  session: ModelSession,
): void {
  const widths: Readonly<Record<string, readonly [axis: number, width: number | undefined]>> = {
    sample: [1, subModel === "vae_encoder" ? imageChannels : unet.in_channels],
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
