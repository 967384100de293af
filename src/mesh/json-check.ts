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

/**
 * Checks a JSON text against a message type and says what is wrong with it: the path of the field and the type expected there, such as
 * `options.width: expected uint32`. Returns undefined for a text that decodes.
 *
 * Nothing of the input is quoted, where protobuf-es and JSON.parse would quote it: not values, not unknown field names, not map keys,
 * not enum names. Unknown fields are ignored; unknown enum names are not, because a misspelt choice must not become the default.
 */
export function checkJson(schema: DescMessage, text: string): string | undefined {
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
  return checkMessage(schema, json, []) ?? checkWhole(schema, json);
}

type Path = readonly string[];

/** As deep as protobuf-es goes. */
const maxDepth = 100;

function checkMessage(schema: DescMessage, json: JsonValue, path: Path): string | undefined {
  // Timestamp, Struct and the like have a JSON form of their own; their decoder is asked.
  if (schema.typeName.startsWith("google.protobuf.")) {
    return decodes(schema, json) ? undefined : at(path, `expected ${schema.typeName}`);
  }
  if (!isObject(json)) {
    return at(path, `expected object (${schema.name})`);
  }
  if (path.length > maxDepth) {
    return at(path.slice(0, 3), "nested too deeply");
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
    const problem = checkField(schema, field, value, fieldPath);
    if (problem !== undefined) {
      return problem;
    }
  }
  return undefined;
}

function checkField(schema: DescMessage, field: DescField, json: JsonValue, path: Path): string | undefined {
  if (json === null) {
    return undefined; // Absent.
  }
  switch (field.fieldKind) {
    case "message":
      return checkMessage(field.message, json, path);
    case "enum":
      return checkEnum(field.enum, json, path);
    case "scalar":
      return decodes(schema, { [field.name]: json }) ? undefined : at(path, `expected ${scalarName(field.scalar)}`);
    case "list":
      if (!Array.isArray(json)) {
        return at(path, `expected array of ${elementName(field)}`);
      }
      return first(json, (item, index) => checkElement(schema, field, item, [item], [...path, String(index)]));
    case "map":
      if (!isObject(json)) {
        return at(path, `expected object with ${elementName(field)} values`);
      }
      return first(Object.entries(json), ([key, value]) => checkElement(schema, field, value, { [key]: value }, path));
    default:
      return field satisfies never;
  }
}

type Container = DescField & { fieldKind: "list" | "map" };

/** @param alone the field's value with this one element only. */
function checkElement(
  schema: DescMessage,
  field: Container,
  json: JsonValue,
  alone: JsonValue,
  path: Path,
): string | undefined {
  if (json !== null && field.message !== undefined) {
    const problem = checkMessage(field.message, json, path);
    if (problem !== undefined) {
      return problem;
    }
  }
  if (json !== null && field.enum !== undefined) {
    return checkEnum(field.enum, json, path);
  }
  if (decodes(schema, { [field.name]: alone })) {
    return undefined;
  }
  return at(
    path,
    field.fieldKind === "map" ? `expected object with ${elementName(field)} values` : `expected ${elementName(field)}`,
  );
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

/** The decoder has the last word: what it refuses and the walk above did not see is refused without saying where. */
function checkWhole(schema: DescMessage, json: JsonValue): string | undefined {
  return decodes(schema, json) ? undefined : `expected the JSON form of ${schema.name}`;
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
