import type { LdmShape } from "./ldm-names.js";
import { ldmUnetNames } from "./ldm-names.js";

/*
 * What files of LoRAs call the two factors of a layer. Each layer of the model is asked for, in every dialect: the underscores of kohya's
 * names cannot be turned back into dots. Sources: diffusers' loaders/lora_conversion_utils.py and utils/state_dict_utils.py, and
 * https://github.com/kohya-ss/sd-scripts.
 */

/** Sub-models that LoRAs change. */
export const loraParts = ["text_encoder", "text_encoder_2", "unet"] as const;
export type LoraPart = (typeof loraParts)[number];

/** Names of the two factors of a layer, and of the number that scales them, as a file may have them. */
export interface FactorNames {
  readonly down: string;
  readonly up: string;
  readonly alpha: string;
}

/** Ends of the names of the first and the second factor. */
const factorEnds: readonly (readonly [down: string, up: string])[] = [
  [".lora_down.weight", ".lora_up.weight"],
  [".lora_A.weight", ".lora_B.weight"],
  [".lora.down.weight", ".lora.up.weight"],
  [".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"],
];

/** Those of diffusers in 2023, behind names such as `to_q_lora`. */
const attentionEnds: typeof factorEnds = [[".down.weight", ".up.weight"]];

const kohyaPrefixes: Readonly<Record<LoraPart, readonly string[]>> = {
  unet: ["lora_unet_"],
  text_encoder: ["lora_te1_", "lora_te_"],
  text_encoder_2: ["lora_te2_"],
};

/** How the UNet's blocks are numbered by Stability's own code, which kohya's names follow. */
export function ldmShapeOf(layers: Iterable<string>): LdmShape {
  let levels = 0;
  let resnets = 0;
  for (const layer of layers) {
    const [, level, resnet] = /^down_blocks\.(\d+)\.resnets\.(\d+)\./.exec(layer) ?? [];
    levels = Math.max(levels, Number(level ?? -1) + 1);
    resnets = Math.max(resnets, Number(resnet ?? -1) + 1);
  }
  return { levels, layers: resnets };
}

/**
 * All names that the factors of a layer can have.
 *
 * @param layer diffusers' or transformers' name without `.weight`, such as `mid_block.attentions.0.proj_in`.
 */
export function factorNames(part: LoraPart, layer: string, shape: LdmShape): FactorNames[] {
  const underscored = (name: string): string => name.replaceAll(".", "_");
  const kohya = kohyaPrefixes[part];
  if (part === "unet") {
    const ldm = ldmUnetNames(`${layer}.weight`, shape).map((name) => name.slice(0, -".weight".length));
    const inProcessor = layer.replace(/\.(to_[qkv]|to_out\.0)$/, ".processor.$1");
    const older = inProcessor.replace(/\.(to_[qkv]|to_out)(?:\.0)?$/, ".$1_lora");
    return [
      ...namesOf([layer, ...ldm].map(underscored), kohya, factorEnds),
      ...namesOf([layer, inProcessor], ["unet.", ""], factorEnds),
      ...(older === layer ? [] : namesOf([older, older.replace(".processor.", ".")], ["unet.", ""], attentionEnds)),
    ];
  }
  // transformers 5 names the first encoder's layers without the prefix.
  const bare = layer.replace(/^text_model\./, "");
  const older = [layer, bare].map((name) => name.replace(/\.(q|k|v|out)_proj$/, ".to_$1_lora"));
  return [
    ...namesOf([layer, bare].map(underscored), kohya, factorEnds),
    ...namesOf([layer, bare], [`${part}.`], factorEnds),
    ...(older.includes(layer) ? [] : namesOf(older, [`${part}.`], attentionEnds)),
  ];
}

function namesOf(stems: readonly string[], prefixes: readonly string[], ends: typeof factorEnds): FactorNames[] {
  return prefixes.flatMap((prefix) =>
    stems.flatMap((stem) =>
      ends.map(([down, up]) => ({
        down: `${prefix}${stem}${down}`,
        up: `${prefix}${stem}${up}`,
        alpha: `${prefix}${stem}.alpha`,
      })),
    ),
  );
}

/** Kinds of changes to weights that are no plain LoRA, by the names of their tensors. */
const otherKinds: readonly (readonly [has: RegExp, what: string])[] = [
  [/\.hada_[wt]/, "a LoHa"],
  [/\.lokr_/, "a LoKr"],
  [/dora_scale|lora_magnitude_vector/, "a DoRA"],
  [/\.oft_|\.boft_/, "an OFT"],
  [/\.lora_mid\./, "a LoCon with Tucker (CP) decomposition"],
  [/\.(?:a1|a2|b1|b2)\.weight$/, "a GLoRA"],
  [/\.on_input$/, "an IA3"],
  [/\.(?:diff|diff_b|w_norm|b_norm)$/, "a difference of whole weights"],
  [/^bundle_emb\./, "a LoRA with embeddings of its own"],
  [/^(?:model\.diffusion_model|first_stage_model|conditioner|cond_stage_model)\./, "a checkpoint, which --model takes"],
  [/^(?:emb_params|clip_[gl])$/, "a textual inversion"],
  [/^(?:transformer|diffusion_model)\.|^lora_transformer_|double_blocks/, "a LoRA of another architecture than SDXL"],
];

/** What a file is instead of a plain LoRA, by the first tensor that says so; undefined if none does. */
export function otherKindOf(names: Iterable<string>): { readonly tensor: string; readonly what: string } | undefined {
  for (const tensor of names) {
    const [, what] = otherKinds.find(([has]) => has.test(tensor)) ?? [];
    if (what !== undefined) {
      return { tensor, what };
    }
  }
  return undefined;
}
