import { join } from "node:path";
import { buildGraphs } from "./build-graphs.js";
import { chooseGraphs, type GraphFiles, type SubModelFolder } from "./graph-files.js";
import type { GraphSource } from "./graph-source.js";
import type { ModelDescription } from "./model-description.js";
import type { ResidenceOptions } from "./residence.js";

/** The graphs of a model, ready to be opened. */
export interface PreparedGraphs {
  readonly graphs: Readonly<Record<SubModelFolder, GraphSource>>;
  /** To be called once they are open. @throws ModelFolderError when a file of weights was replaced meanwhile. */
  checkUnchanged(): Promise<void>;
  /** To be called when an image has no numbers in it. @throws ModelFolderError when the weights have such values */
  checkNumbers(): Promise<void>;
  /** What was chosen, and why, for the log. */
  readonly precision: string;
  /** How many numbers the weights are, and how many bytes their files; undefined for exported graphs. */
  readonly weights?: { readonly parameters: number; readonly bytes: number };
}

/** Builds or finds the graphs of a model for a place to run. @throws ModelFolderError */
export async function prepareGraphs(model: ModelDescription, options: ResidenceOptions): Promise<PreparedGraphs> {
  if (model.form.kind === "onnx") {
    const files = await chooseGraphs(model, options);
    const exported = (subModel: SubModelFolder): GraphSource => {
      const file = files[subModel];
      return { kind: "exported", subModel, file, path: join(model.path, file) };
    };
    return {
      graphs: {
        text_encoder: exported("text_encoder"),
        text_encoder_2: exported("text_encoder_2"),
        unet: exported("unet"),
        vae_decoder: exported("vae_decoder"),
      },
      checkUnchanged: async () => {},
      checkNumbers: async () => {},
      precision: "as exported",
    };
  }
  return buildGraphs(model, model.form, options);
}

/** The files of graphs, or of the weights that graphs were built over: paths inside the model's folder. */
export function filesOf(graphs: PreparedGraphs["graphs"]): GraphFiles {
  const { text_encoder, text_encoder_2, unet, vae_decoder } = graphs;
  return {
    text_encoder: text_encoder.file,
    text_encoder_2: text_encoder_2.file,
    unet: unet.file,
    vae_decoder: vae_decoder.file,
  };
}
