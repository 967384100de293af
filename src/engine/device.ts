/** Execution providers of onnxruntime-node that the engine can run on, with the names that both use. */
export type ExecutionProvider = "cpu" | "cuda" | "tensorrt" | "webgpu" | "coreml" | "dml";
/** All of them. */
export const executionProviders = [
  "cpu",
  "cuda",
  "tensorrt",
  "webgpu",
  "coreml",
  "dml",
] as const satisfies readonly ExecutionProvider[];

/** `auto`, a provider, or a provider with the number of the device: `cuda:1`. */
export type Device = "auto" | ExecutionProvider | `${IndexedProvider}:${number}`;

/** Where sessions run. */
export interface Placement {
  readonly provider: ExecutionProvider;
  /** Number of the device among those of its kind. @default 0 */
  readonly index?: number;
}

/** Providers of which onnxruntime-node takes a device number; the others choose themselves. */
const indexedProviders = ["cuda", "tensorrt", "dml"] as const;
type IndexedProvider = (typeof indexedProviders)[number];

/**
 * What `auto` tries, in order. TensorRT is not among them: it compiles the model anew at every start and for every new image size, which
 * takes minutes for a UNet of SDXL's size, so that it has to be asked for.
 */
const autoOrder: readonly ExecutionProvider[] = ["cuda", "dml", "coreml", "webgpu", "cpu"];

/** The device that a text names; undefined for any other text. */
export function parseDevice(text: string): Device | undefined {
  if (text === "auto") {
    return text;
  }
  const provider = executionProviders.find((name) => name === text);
  if (provider !== undefined) {
    return provider;
  }
  const indexed = indexedProviders.find((name) => text.startsWith(`${name}:`));
  const index = text.slice((indexed?.length ?? 0) + 1);
  return indexed !== undefined && /^\d{1,2}$/.test(index) ? `${indexed}:${Number(index)}` : undefined;
}

/**
 * Where to try to run, in order: a named device alone, and for `auto` whatever this build of onnxruntime has, the CPU last.
 *
 * @param listed the providers that this platform's onnxruntime was built with, as it lists them.
 */
export function placementsFor(device: Device, listed: readonly string[]): readonly Placement[] {
  if (device === "auto") {
    return autoOrder.filter((provider) => listed.includes(provider) || provider === "cpu").map(toPlacement);
  }
  const [name, index] = device.split(":");
  const provider = executionProviders.find((known) => known === name) ?? "cpu";
  return [index === undefined ? { provider } : { provider, index: Number(index) }];
}

function toPlacement(provider: ExecutionProvider): Placement {
  return { provider };
}

/** A placement as the user names it: `cuda:1`. */
export function describePlacement({ provider, index }: Placement): string {
  return index === undefined ? provider : `${provider}:${index}`;
}

/** What to do if a provider cannot be used. */
export function remedyFor(provider: ExecutionProvider, platform: NodeJS.Platform): string {
  const otherwise = "or take --device cpu";
  switch (provider) {
    case "cpu":
      return "";
    case "cuda":
    case "tensorrt":
      return platform === "linux"
        ? `install its libraries with ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node, see that CUDA 12 and cuDNN 9 can be loaded and that nvidia-smi shows the device, ${otherwise}`
        : `onnxruntime-node has ${provider} on Linux x64 only: ${platform === "win32" ? "take --device dml or cpu" : "take --device webgpu or cpu"}`;
    case "webgpu":
      return `install the graphics driver (on Linux its Vulkan driver and libvulkan1), ${otherwise}`;
    case "coreml":
      return platform === "darwin"
        ? "take --device webgpu or cpu"
        : "onnxruntime-node has coreml on macOS only: take --device auto or cpu";
    case "dml":
      return platform === "win32"
        ? `update the graphics driver, ${otherwise}`
        : "onnxruntime-node has dml on Windows only: take --device auto or cpu";
  }
}
