import { type FileHandle, open } from "node:fs/promises";
import { join, posix } from "node:path";
import { fileExists } from "./model-cache.js";
import { isInnerPath } from "./model-id.js";

/*
 * Which files of a repository make an SDXL folder in ONNX form. Repositories hold the same weights for other frameworks too, many
 * times the size.
 */

const graphFolders = ["text_encoder", "text_encoder_2", "unet", "vae_decoder"];

/** The graph of a sub-model: the plain export, and that in half precision; a repository has one of them or both. */
const graphsOf = (folder: string): readonly string[] => [`${folder}/model.onnx`, `${folder}/model_fp16.onnx`];

/** Folder of a graph that a model can do without: images to start from need it. */
const encoderFolder = "vae_encoder";

/** The graphs. Each names the further files that it needs. The encoder comes first, so that a snapshot with all the others has it. */
export const graphFiles: readonly string[] = [encoderFolder, ...graphFolders].flatMap(graphsOf);

const tokenizers = ["tokenizer", "tokenizer_2"];

const requiredFiles = [
  "model_index.json",
  "scheduler/scheduler_config.json",
  ...tokenizers.map((folder) => `${folder}/tokenizer_config.json`),
  ...graphFolders.map((folder) => `${folder}/config.json`),
];

/** Files that a folder can do without, or has others in place of. */
const optionalFiles = [
  "throughline.json",
  ...tokenizers.flatMap((folder) =>
    ["special_tokens_map.json", "vocab.json", "merges.txt", "tokenizer.json"].map((file) => `${folder}/${file}`),
  ),
];

/** All files with a fixed name, small ones first, so that a snapshot with the graphs has all the others. */
export const namedFiles: readonly string[] = [...optionalFiles, ...requiredFiles, ...graphFiles];

/** Files that an SDXL folder needs and the given files lack, except the weights of the graphs. */
export function lackingFiles(present: ReadonlySet<string>): readonly string[] {
  const vocabularies = tokenizers
    .filter((folder) => !present.has(`${folder}/tokenizer.json`))
    .flatMap((folder) => [`${folder}/vocab.json`, `${folder}/merges.txt`]);
  const graphs = graphFolders.filter((folder) => !graphsOf(folder).some((file) => present.has(file)));
  const lacking = [...requiredFiles, ...vocabularies].filter((file) => !present.has(file));
  return [...lacking, ...graphs.map((folder) => `${folder}/model.onnx`)];
}

/** Weight files that the graphs of a folder refer to. */
export async function weightFiles(folder: string): Promise<readonly string[]> {
  const graphs = await existing(folder, graphFiles);
  const names = await Promise.all(graphs.map((file) => externalDataFiles(join(folder, file), file)));
  return names.flatMap((set) => [...set]);
}

/** What a folder on disk lacks; empty when it is whole. */
export async function missingFiles(folder: string): Promise<readonly string[]> {
  const lacking = lackingFiles(new Set(await existing(folder, namedFiles)));
  if (lacking.length > 0) {
    return lacking;
  }
  const weights = await weightFiles(folder);
  const there = new Set(await existing(folder, weights));
  return weights.filter((file) => !there.has(file));
}

async function existing(folder: string, files: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(files.map((file) => fileExists(join(folder, file))));
  return files.filter((_, index) => found[index]);
}

/*
 * An ONNX graph above 2 GB keeps its weights in files beside it and names them. Only those names are read here; field numbers are
 * those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
 */

const graphOfModel = 7;
const initializerOfGraph = 5;
const externalDataOfTensor = 13;
const keyOfEntry = 1;
const valueOfEntry = 2;

/**
 * List the weight files that an ONNX file refers to, as paths inside the model's folder. It skips the weights, so memory and time do not
 * depend on the size.
 *
 * @param path where the ONNX file lies.
 * @param file its path inside the model's folder, such as `unet/model.onnx`.
 * @throws Error when it is no ONNX file, or refers to a file outside its folder, which ONNX forbids.
 */
export async function externalDataFiles(path: string, file: string): Promise<ReadonlySet<string>> {
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    const reader = createProtobufReader(handle);
    const names = new Set<string>();
    for await (const graph of reader.messages({ start: 0, end: size }, graphOfModel)) {
      for await (const tensor of reader.messages(graph, initializerOfGraph)) {
        for await (const entry of reader.messages(tensor, externalDataOfTensor)) {
          if ((await reader.text(entry, keyOfEntry)) === "location") {
            const location = await reader.text(entry, valueOfEntry);
            if (!isInnerPath(location)) {
              throw new Error(`it wants weights outside its folder, at ${JSON.stringify(location.slice(0, 100))}`);
            }
            names.add(posix.join(posix.dirname(file), location));
          }
        }
      }
    }
    return names;
  } finally {
    await handle.close();
  }
}

/** A range of bytes of the file. */
interface Span {
  readonly start: number;
  readonly end: number;
}

const windowBytes = 65_536;

/** Reads a protobuf message field by field from a file that may be larger than memory. */
function createProtobufReader(handle: FileHandle) {
  const window = Buffer.alloc(windowBytes);
  let windowStart = 0;
  let windowEnd = 0;

  async function byteAt(position: number): Promise<number> {
    if (position < windowStart || position >= windowEnd) {
      const { bytesRead } = await handle.read(window, 0, windowBytes, position);
      windowStart = position;
      windowEnd = position + bytesRead;
    }
    const byte = position < windowEnd ? window[position - windowStart] : undefined;
    if (byte === undefined) {
      throw new Error("the file ends too early");
    }
    return byte;
  }

  async function varint(position: number): Promise<{ value: number; next: number }> {
    let value = 0;
    for (let index = 0; index < 10; index++) {
      const byte = await byteAt(position + index);
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) {
        return { value, next: position + index + 1 };
      }
    }
    throw new Error("it is no protobuf message");
  }

  /** Contents of every field of that number that holds a message or a text. */
  async function* messages({ start, end }: Span, field: number): AsyncGenerator<Span, void, undefined> {
    for (let position = start; position < end; ) {
      const { value: tag, next } = await varint(position);
      switch (tag % 8) {
        case 0:
          position = (await varint(next)).next;
          break;
        case 1:
          position = next + 8;
          break;
        case 2: {
          const length = await varint(next);
          const content = { start: length.next, end: length.next + length.value };
          if (content.end > end) {
            throw new Error("the file ends too early");
          }
          if (Math.floor(tag / 8) === field) {
            yield content;
          }
          position = content.end;
          break;
        }
        case 5:
          position = next + 4;
          break;
        default:
          throw new Error("it is no protobuf message");
      }
    }
  }

  return {
    messages,
    /** The first text of a field; empty where there is none. */
    async text(message: Span, field: number): Promise<string> {
      for await (const { start, end } of messages(message, field)) {
        const bytes = Buffer.alloc(Math.min(end - start, windowBytes));
        await handle.read(bytes, 0, bytes.length, start);
        return bytes.toString("utf8");
      }
      return "";
    },
  };
}
