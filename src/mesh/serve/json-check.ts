import {
  type DescEnum,
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import { findDuplicateKey } from "./json-duplicates.js";
import { jsonShapeProblem } from "./json-shape.js";

/**
 * Checks a JSON text against a message type and says what is wrong with it: the path of the field and the type expected there, such as
 * `options.width: expected uint32`. Returns undefined for a text that decodes.
 *
 * Nothing of the input is quoted, where protobuf-es and JSON.parse would quote it: not values, not unknown field names, not map keys,
 * not enum names. Unknown fields are ignored; unknown enum names are not, because a misspelt choice must not become the default.
 *
 * The time is linear in the text, whatever it holds: the decoder is asked about the whole, and about parts only to find the one that it
 * refused.
 */
export function checkJson(schema: DescMessage, text: string): string | undefined {
  const shape = jsonShapeProblem(text, { maxDepth, maxMembers });
  if (shape !== undefined) {
    return shape;
  }
  let json: JsonValue;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const position = /at position (\d+)/.exec(String(error))?.[1];
    return position === undefined ? "malformed JSON" : `malformed JSON at position ${position}`;
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) {
    return at(knownPath(schema, duplicate), "set more than once");
  }
  const problem = checkMessage(schema, json, [], () => true);
  if (problem !== undefined || decodes(schema, json)) {
    return problem;
  }
  // What the walk below does not find is refused without saying where: the decoder has the last word.
  return checkMessage(schema, json, [], decodes) ?? `expected the JSON form of ${schema.name}`;
}

type Path = readonly string[];

/** Says whether a JSON value is taken for a message type. */
type Accepts = (schema: DescMessage, json: JsonValue) => boolean;

/** Of brackets. protobuf-es takes as many messages inside one another. */
export const maxDepth = 100;

/** Of one object, whose members cost more than its bytes: each becomes a key of a map, and a value that rules look at. */
export const maxMembers = 4_096;

/** @param accepts is asked about each value that is more than structure. */
function checkMessage(schema: DescMessage, json: JsonValue, path: Path, accepts: Accepts): string | undefined {
  // Timestamp, Struct and the like have a JSON form of their own; their decoder is asked.
  if (schema.typeName.startsWith("google.protobuf.")) {
    return accepts(schema, json) ? undefined : at(path, `expected ${schema.typeName}`);
  }
  if (!isObject(json)) {
    return at(path, `expected object (${schema.name})`);
  }
  const seen = new Set<string>();
  for (const [key, value] of Object.entries(json)) {
    const field = schema.fields.find(({ name, jsonName }) => name === key || jsonName === key);
    if (field === undefined) {
      continue;
    }
    const fieldPath = [...path, field.name];
    const slot = field.oneof?.name ?? field.name;
    if (seen.has(slot) && !(field.oneof !== undefined && value === null)) {
      return at(field.oneof === undefined ? fieldPath : [...path, slot], "set more than once");
    }
    if (field.oneof === undefined || value !== null) {
      seen.add(slot);
    }
    const problem = checkField(schema, field, value, fieldPath, accepts);
    if (problem !== undefined) {
      return problem;
    }
  }
  return undefined;
}

function checkField(
  schema: DescMessage,
  field: DescField,
  json: JsonValue,
  path: Path,
  accepts: Accepts,
): string | undefined {
  if (json === null) {
    return undefined; // Absent.
  }
  switch (field.fieldKind) {
    case "message":
      return checkMessage(field.message, json, path, accepts);
    case "enum":
      return checkEnum(field.enum, json, path);
    case "scalar":
      return accepts(schema, { [field.name]: json }) ? undefined : at(path, `expected ${scalarName(field.scalar)}`);
    case "list":
      if (!Array.isArray(json)) {
        return at(path, `expected array of ${elementName(field)}`);
      }
      return (
        first(json, (item, index) => checkElement(field, item, [...path, String(index)], accepts)) ??
        checkList(schema, field, json, path, accepts)
      );
    case "map": {
      const expected = at(path, `expected object with ${elementName(field)} values`);
      if (!isObject(json)) {
        return expected;
      }
      return (
        first(Object.values(json), (value) => checkElement(field, value, path, accepts)) ??
        (accepts(schema, { [field.name]: json }) ? undefined : expected)
      );
    }
    default:
      return field satisfies never;
  }
}

type Container = DescField & { fieldKind: "list" | "map" };

/** Looks into messages and enums. Scalars and nulls are left to the decoder, which is asked about all elements at once. */
function checkElement(field: Container, json: JsonValue, path: Path, accepts: Accepts): string | undefined {
  if (json !== null && field.message !== undefined) {
    return checkMessage(field.message, json, path, accepts);
  }
  if (json !== null && field.enum !== undefined) {
    return checkEnum(field.enum, json, path);
  }
  return undefined;
}

/** Finds the first element that is refused, by halving, so that a long list costs no more than being decoded twice. */
function checkList(
  schema: DescMessage,
  field: Container,
  items: readonly JsonValue[],
  path: Path,
  accepts: Accepts,
): string | undefined {
  const acceptsRange = (from: number, to: number) => accepts(schema, { [field.name]: items.slice(from, to) });
  if (acceptsRange(0, items.length)) {
    return undefined;
  }
  let [from, to] = [0, items.length];
  while (to - from > 1) {
    const middle = Math.floor((from + to) / 2);
    [from, to] = acceptsRange(from, middle) ? [middle, to] : [from, middle];
  }
  return at([...path, String(from)], `expected ${elementName(field)}`);
}

function checkEnum(schema: DescEnum, json: JsonValue, path: Path): string | undefined {
  if (typeof json === "number" && Number.isInteger(json) && Math.abs(json) <= 0x7fffffff) {
    return undefined;
  }
  if (schema.values.some(({ name }) => name === json)) {
    return undefined;
  }
  const names = schema.values.slice(0, 12).map(({ name }) => name);
  return at(path, `expected one of ${names.join(", ")}${schema.values.length > names.length ? ", …" : ""}`);
}

function decodes(schema: DescMessage, json: JsonValue): boolean {
  try {
    fromJson(schema, json, { ignoreUnknownFields: true });
    return true;
  } catch {
    return false;
  }
}

function at(path: Path, problem: string): string {
  return path.length === 0 ? problem : `${path.join(".")}: ${problem}`;
}

/** As much of a path as names fields of the type; the rest is the caller's text. */
function knownPath(schema: DescMessage, keys: Path): Path {
  const [key, ...rest] = keys;
  const field = schema.fields.find(({ name, jsonName }) => name === key || jsonName === key);
  if (field === undefined) {
    return [];
  }
  return [
    field.name,
    ...(field.message === undefined || field.fieldKind !== "message" ? [] : knownPath(field.message, rest)),
  ];
}

function elementName(field: Container): string {
  if (field.scalar !== undefined) {
    return scalarName(field.scalar);
  }
  return field.message?.name ?? field.enum?.name ?? "";
}

function scalarName(type: ScalarType): string {
  return ScalarType[type].toLowerCase();
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function first<T>(items: readonly T[], check: (item: T, index: number) => string | undefined): string | undefined {
  for (const [index, item] of items.entries()) {
    const problem = check(item, index);
    if (problem !== undefined) {
      return problem;
    }
  }
  return undefined;
}
