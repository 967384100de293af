import { create } from "@bufbuild/protobuf";
import { type Any, AnySchema, anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError } from "@connectrpc/connect";
import {
  type Error as ConformanceError,
  ConformancePayload_RequestInfoSchema,
  ErrorSchema,
  type Header,
  HeaderSchema,
} from "./messages.js";

/** Header fields in the suite's form. */
export function fieldsOf(headers: Headers): Header[] {
  return [...headers].map(([name, value]) => create(HeaderSchema, { name, value: [value] }));
}

/** Adds header fields of the suite's form to headers. */
export function appendFields(headers: Headers, fields: readonly Header[]): Headers {
  for (const { name, value } of fields) {
    for (const each of value) {
      headers.append(name, each);
    }
  }
  return headers;
}

/** An error as a client saw it, in the suite's form. The codes have the same numbers. */
export function errorSeen({ code, rawMessage, details }: ConnectError): ConformanceError {
  const number: number = code;
  return create(ErrorSchema, { code: number, message: rawMessage, details: details.map(packed) });
}

function packed(detail: ConnectError["details"][number]): Any {
  return "desc" in detail
    ? anyPack(detail.desc, create(detail.desc, detail.value))
    : create(AnySchema, { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value });
}

/** The error that a case asks a server for, with what the server knows of the request as a further detail. */
export function errorWanted(wanted: ConformanceError, further: readonly Any[] = []): ConnectError {
  const number: number = wanted.code;
  const error = new ConnectError(wanted.message ?? "", number as Code);
  error.details = [...wanted.details, ...further].map((any) => {
    const value = anyUnpack(any, ConformancePayload_RequestInfoSchema);
    return value === undefined
      ? { type: any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1), value: any.value }
      : { desc: ConformancePayload_RequestInfoSchema, value };
  });
  return error;
}

/** Resolves after so many milliseconds. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
