import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { WeightError } from "./weights/tensor-location.js";

/** Reads files of one model folder; every failure is a ModelFolderError that names the file. */
export interface FolderReader {
  readonly folder: string;
  /** Whether there is a file or folder of that name. */
  exists(name: string): Promise<boolean>;
  /** A text file that must be there. */
  text(file: string): Promise<string>;
  /** The same for a file that may be absent: then undefined. */
  optionalText(file: string): Promise<string | undefined>;
  /** A JSON file that must be there and fit the schema. */
  json<S extends z.ZodType>(file: string, schema: S): Promise<z.output<S>>;
  /** The same for a file that may be absent: then undefined. */
  optionalJson<S extends z.ZodType>(file: string, schema: S): Promise<z.output<S> | undefined>;
  /** Checks a file's text, which is JSON. */
  parse<S extends z.ZodType>(file: string, text: string, schema: S): z.output<S>;
  /** Checks a value read from a file against a schema. */
  check<S extends z.ZodType>(file: string, value: unknown, schema: S): z.output<S>;
}

export function createFolderReader(folder: string): FolderReader {
  async function optionalText(file: string): Promise<string | undefined> {
    try {
      const text = await readFile(join(folder, file), "utf8");
      // A byte order mark, as editors on Windows write it.
      return text.replace(/^\uFEFF/, "");
    } catch (error) {
      if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) {
        return undefined;
      }
      const found = error instanceof Error ? error.message : String(error);
      throw new ModelFolderError(folder, { file, expected: "a readable file", found }, { cause: error });
    }
  }

  function fromJson(file: string, text: string): unknown {
    try {
      return JSON.parse(text.includes("Infinity") ? withoutInfinities(text) : text);
    } catch (error) {
      throw new ModelFolderError(folder, { file, expected: "JSON", found: "text that is not JSON" }, { cause: error });
    }
  }

  const reader: FolderReader = {
    folder,
    exists: (name) =>
      stat(join(folder, name)).then(
        () => true,
        () => false,
      ),
    async text(file) {
      const text = await optionalText(file);
      if (text === undefined) {
        throw new ModelFolderError(folder, { file, expected: "a file", found: "none" });
      }
      return text;
    },
    optionalText,
    json: async (file, schema) => reader.parse(file, await reader.text(file), schema),
    async optionalJson(file, schema) {
      const text = await optionalText(file);
      return text === undefined ? undefined : reader.parse(file, text, schema);
    },
    parse: (file, text, schema) => reader.check(file, fromJson(file, text), schema),
    check(file, value, schema) {
      const result = schema.safeParse(value);
      if (result.success) {
        return result.data;
      }
      const issue = result.error.issues[0];
      const path = issue?.path ?? [];
      if (issue?.code === "unrecognized_keys") {
        const known = schema instanceof z.ZodObject && path.length === 0 ? Object.keys(schema.shape) : [];
        const expected = known.length > 0 ? `only the keys ${known.join(", ")}` : "no other keys";
        const found = issue.keys.map((key) => JSON.stringify(key)).join(", ");
        throw new ModelFolderError(folder, { file, expected, found });
      }
      const where = path.length > 0 ? ` at "${path.join(".")}"` : "";
      // Zod's message is "Invalid input: expected number, received string"; `found` has what was received.
      const expected = (issue?.message ?? "a fitting value")
        .replace(/^Invalid \w+: expected /u, "")
        .replace(/, received .*$/u, "");
      throw new ModelFolderError(folder, { file, expected: expected + where, found: describe(valueAt(value, path)) });
    },
  };
  return reader;
}

/** Replace the bare word `Infinity`, which is no JSON. Python writes it, for example for `lambda_min_clipped` of diffusers. */
function withoutInfinities(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|\bInfinity\b/gu, (match) => (match.startsWith('"') ? match : "1e999"));
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inside, key) => (typeof inside === "object" && inside !== null ? Reflect.get(inside, key) : undefined),
    value,
  );
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** What is wrong with a model folder. */
export interface ModelFolderFault {
  /** File inside the folder, such as `unet/config.json`. */
  readonly file: string;
  readonly expected: string;
  readonly found: string;
}

/** A model folder that cannot be loaded: it names the file, what was expected there and what was found. For operators, not callers. */
export class ModelFolderError extends Error {
  override readonly name = "ModelFolderError";
  readonly folder: string;
  readonly fault: ModelFolderFault;

  constructor(folder: string, fault: ModelFolderFault, options?: ErrorOptions) {
    super(`model folder ${folder}: ${fault.file}: expected ${fault.expected}, found ${fault.found}`, options);
    this.folder = folder;
    this.fault = fault;
  }
}

/** Convert errors about weights or files to ModelFolderError. Returns other errors unchanged. */
export function asModelError(folder: string, error: unknown): unknown {
  return error instanceof WeightError
    ? new ModelFolderError(folder, { file: error.label, expected: error.expected, found: error.found })
    : error;
}
