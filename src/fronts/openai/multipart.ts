import { Busboy, type BusboyInstance } from "@fastify/busboy";
import { requestLimits } from "../../request-limits.js";
import { invalidRequest, OpenAiError } from "./errors.js";

/** A form with files (RFC 7578). */
export interface Form {
  /** Values of each field by its name, in order. */
  readonly fields: ReadonlyMap<string, readonly string[]>;
  readonly files: readonly FormFile[];
}

/** A file of a form. Its own name and media type are not read. */
export interface FormFile {
  /** Name of its field, such as `image`. */
  readonly field: string;
  readonly bytes: Uint8Array;
}

/** Bytes of a form besides its image: other fields, and the heads of the parts. */
const otherBytes = 262_144;

/** Maximum bytes of a form's body. */
export const maxFormBytes = requestLimits.maxInitImageBytes + otherBytes;

const limits = {
  fieldNameSize: 200,
  fieldSize: 65_536,
  fileSize: requestLimits.maxInitImageBytes,
  parts: 64,
  headerPairs: 32,
  headerSize: 16_384,
};

/** Bytes that are parsed at a time, so that other calls run in between. */
const sliceBytes = 65_536;

/**
 * Parse the body of a form.
 *
 * @param contentType its header, with the boundary.
 * @throws OpenAiError 400 for a body that is no complete form, or has too many or too large fields; 413 for a file above 8 MiB.
 */
export async function readForm(body: Uint8Array, contentType: string): Promise<Form> {
  const fields = new Map<string, string[]>();
  const files: FormFile[] = [];
  const parser = openParser(contentType);
  let failure: OpenAiError | undefined;
  let progress = 0;
  const fail = (error: OpenAiError) => {
    failure ??= error;
  };
  parser.on("field", (name, value, isNameCut, isValueCut) => {
    progress++;
    if (isNameCut || isValueCut) {
      fail(fieldTooLarge());
    }
    fields.set(name, [...(fields.get(name) ?? []), value]);
  });
  parser.on("file", (field, stream) => {
    const chunks: Uint8Array[] = [];
    stream.on("data", (chunk: Uint8Array) => {
      progress++;
      chunks.push(chunk);
    });
    stream.on("limit", () => fail(fileTooLarge(field)));
    stream.on("end", () => void files.push({ field, bytes: Buffer.concat(chunks) }));
    // The parser itself reports a form that ends early.
    stream.on("error", () => {});
  });
  parser.on("partsLimit", () => fail(invalidForm(`the form has more than ${limits.parts} parts`)));
  parser.on("error", () => fail(invalidForm("the body is no complete form (multipart/form-data)")));

  let idleSlices = 0;
  for (let start = 0; start < body.length && failure === undefined; start += sliceBytes) {
    const before = progress;
    parser.write(body.subarray(start, start + sliceBytes));
    await new Promise(setImmediate);
    idleSlices = progress === before ? idleSlices + 1 : 0;
    // The parser only drops what is above its limits: it would still read all of a field, or of a part's head.
    if (idleSlices > 1) {
      fail(fieldTooLarge());
    }
  }
  if (failure !== undefined) {
    parser.destroy();
    throw failure;
  }
  const finished = new Promise((resolve) => parser.on("finish", resolve).on("error", resolve));
  parser.end();
  await finished;
  if (failure !== undefined) {
    throw failure;
  }
  return { fields, files };
}

function fieldTooLarge(): OpenAiError {
  return invalidForm(`the form has a field, or the head of a part, above ${limits.fieldSize} bytes`);
}

function invalidForm(message: string): OpenAiError {
  return invalidRequest(null, message, "invalid_form");
}

function openParser(contentType: string): BusboyInstance {
  try {
    return new Busboy({ headers: { "content-type": contentType }, limits });
  } catch {
    throw invalidForm("the header content-type names no boundary of the form");
  }
}

/** 413 for an image. @param field of the file. */
export function fileTooLarge(field: string): OpenAiError {
  return new OpenAiError(413, {
    message: `${field}: the file may have at most ${requestLimits.maxInitImageBytes} bytes (8 MiB); make it smaller`,
    type: "invalid_request_error",
    param: field,
    code: "request_too_large",
  });
}
