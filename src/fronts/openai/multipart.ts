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

/**
 * Parse the body of a form.
 *
 * @param contentType its header, with the boundary.
 * @throws OpenAiError 400 for a body that is no complete form, or has too many or too large fields; 413 for a file above 8 MiB.
 */
export function readForm(body: Uint8Array, contentType: string): Promise<Form> {
  return new Promise((resolve, reject) => {
    const fields = new Map<string, string[]>();
    const files: FormFile[] = [];
    const parser = openParser(contentType);
    parser.on("field", (name, value, isNameCut, isValueCut) => {
      if (isNameCut || isValueCut) {
        reject(invalidRequest(null, `the form has a field above ${limits.fieldSize} bytes`, "invalid_form"));
      }
      fields.set(name, [...(fields.get(name) ?? []), value]);
    });
    parser.on("file", (field, stream) => {
      const chunks: Uint8Array[] = [];
      stream.on("data", (chunk: Uint8Array) => void chunks.push(chunk));
      stream.on("limit", () => reject(fileTooLarge(field)));
      stream.on("end", () => void files.push({ field, bytes: Buffer.concat(chunks) }));
      // The parser itself reports a form that ends early.
      stream.on("error", () => {});
    });
    parser.on("partsLimit", () =>
      reject(invalidRequest(null, `the form has more than ${limits.parts} parts`, "invalid_form")),
    );
    parser.on("error", () => reject(incomplete()));
    parser.on("finish", () => resolve({ fields, files }));
    parser.end(body);
  });
}

function openParser(contentType: string): BusboyInstance {
  try {
    return new Busboy({ headers: { "content-type": contentType }, limits });
  } catch {
    throw invalidRequest(null, "the header content-type names no boundary of the form", "invalid_form");
  }
}

function incomplete(): OpenAiError {
  return invalidRequest(null, "the body is no complete form (multipart/form-data)", "invalid_form");
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
