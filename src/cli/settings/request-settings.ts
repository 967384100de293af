import { optionalSetting, setting } from "./setting.js";
import { anyText, decimalNumber, oneOf, text, wholeNumber } from "./setting-schemas.js";

function sizeSetting(side: "width" | "height") {
  return optionalSetting({
    flag: side,
    argument: "pixels",
    schema: wholeNumber(64, 2048, { multipleOf: 8 }),
    absent: "the model's own",
    help: `${side === "width" ? "Width" : "Height"} in pixels, 64 to 2048, a multiple of 8`,
  });
}

/** What a request for a picture may say besides its prompt: the same for `demo` and `generate`. */
export const requestSettings = {
  out: optionalSetting({
    flag: "out",
    argument: "file",
    schema: text,
    absent: "a name made from the prompt, in the working folder",
    help: "File for the picture; an older one is replaced",
  }),
  width: sizeSetting("width"),
  height: sizeSetting("height"),
  seed: optionalSetting({
    flag: "seed",
    argument: "number",
    schema: wholeNumber(0, 2 ** 32 - 1),
    absent: "drawn at random",
    help: "Seed of the noise, 0 to 4294967295; the same seed paints the same picture",
  }),
  steps: optionalSetting({
    flag: "steps",
    argument: "number",
    schema: wholeNumber(1, 150),
    absent: "the model's own",
    help: "Denoising steps, 1 to 150",
  }),
  guidance: optionalSetting({
    flag: "guidance",
    argument: "scale",
    schema: decimalNumber(0, 30),
    absent: "the model's own",
    help: "Guidance scale, 0 to 30: how strictly the picture follows the prompt",
  }),
  negative: optionalSetting({
    flag: "negative",
    argument: "text",
    schema: anyText,
    absent: "nothing",
    help: "What the picture should not show",
  }),
  scheduler: optionalSetting({
    flag: "scheduler",
    argument: "name",
    schema: oneOf(["euler-discrete", "euler-ancestral", "dpmpp-2m", "dpmpp-2m-karras", "ddim", "lcm"]),
    absent: "the model's own",
    help: "Sampling algorithm: euler-discrete, euler-ancestral, dpmpp-2m, dpmpp-2m-karras, ddim or lcm",
  }),
  format: optionalSetting({
    flag: "format",
    argument: "name",
    schema: oneOf(["png", "jpeg", "webp"]),
    absent: "png",
    help: "Encoding of the picture: png, jpeg or webp",
  }),
  previewInterval: optionalSetting({
    flag: "preview-interval",
    argument: "steps",
    schema: wholeNumber(1, 150),
    absent: "no previews",
    help: "Write a small preview beside the picture every so many steps, 1 to 150, where the model has previews",
  }),
  inline: setting({
    flag: "inline",
    argument: "how",
    variable: "THROUGHLINE_INLINE",
    schema: oneOf(["auto", "kitty", "iterm2", "never"]),
    default: "auto",
    help: "Show the picture on the terminal: by kitty's or iTerm2's protocol, auto where the terminal is known to have one of them, or never",
  }),
};
