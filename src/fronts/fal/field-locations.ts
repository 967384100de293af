import type { FieldPathElement } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** Messages around the fields that callers send. */
const wrappers = new Set(["generate", "infer", "request", "options"]);

/** Locations of fields that have another name, or stand outside the body. */
const locations: Readonly<Record<string, readonly string[]>> = {
  width: ["body", "image_size", "width"],
  height: ["body", "image_size", "height"],
  init_image: ["body", "image_url"],
  webhook_url: ["query", "fal_webhook"],
  start_timeout: ["header", "x-fal-request-timeout"],
};

/** The header with the id under which a submission is repeated: of the two that a request may have, the first. */
export function requestIdHeaderOf(header: Headers): "idempotency-key" | "x-fal-request-id" {
  return !header.has("idempotency-key") && header.has("x-fal-request-id") ? "x-fal-request-id" : "idempotency-key";
}

/** Location of {@link requestIdHeaderOf}. */
export function requestIdLocation(header: Headers): readonly string[] {
  return ["header", requestIdHeaderOf(header)];
}

/** Location of a field of a `CreateJobRequest` or a `GenerateRequest` in fal's request, which had this header. */
export function locationOf(elements: readonly FieldPathElement[], header: Headers): readonly string[] {
  const [first, ...rest] = elements.filter(({ fieldName }) => !wrappers.has(fieldName));
  if (first === undefined) {
    return ["body"];
  }
  const known = first.fieldName === "request_id" ? requestIdLocation(header) : locations[first.fieldName];
  return [
    ...(known ?? ["body", first.fieldName]),
    ...subscriptOf(first),
    ...rest.flatMap((element) => [element.fieldName, ...subscriptOf(element)]),
  ];
}

function subscriptOf({ subscript }: FieldPathElement): readonly string[] {
  return subscript.case === undefined ? [] : [String(subscript.value)];
}
