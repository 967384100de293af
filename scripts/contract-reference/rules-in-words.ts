import { type DescField, type DescMessage, getOption, hasOption, type JsonValue, toJson } from "@bufbuild/protobuf";
import {
  FieldRulesSchema,
  field as fieldRules,
  MessageRulesSchema,
  message as messageRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** What protovalidate asks of a field, in words; empty where it asks nothing. */
export function rulesInWords(field: DescField): readonly string[] {
  return hasOption(field, fieldRules)
    ? messageOf(toJson(FieldRulesSchema, getOption(field, fieldRules), { useProtoFieldName: true }))
    : [];
}

/** Rules of protovalidate about several fields of a message, in words. */
export function messageRulesInWords(message: DescMessage): readonly string[] {
  return hasOption(message, messageRules)
    ? messageOf(toJson(MessageRulesSchema, getOption(message, messageRules), { useProtoFieldName: true }))
    : [];
}

/** @throws Error for a rule that has no words yet, so that none is left out in silence. */
function messageOf(rules: JsonValue, lengthUnit = "code points"): string[] {
  const { gte, lte, min_len: shortest, max_len: longest, ...others } = fieldsOf(rules);
  return [
    ...rangeInWords(gte, lte, ""),
    ...rangeInWords(shortest, longest, ` ${lengthUnit}`),
    ...Object.entries(others).flatMap(([name, value]) => wordsOfRule(name, value)),
  ];
}

function rangeInWords(least: JsonValue | undefined, most: JsonValue | undefined, unit: string): string[] {
  if (least !== undefined && most !== undefined) {
    return [`${number(least)} to ${number(most)}${unit}`];
  }
  if (least !== undefined) {
    return [`at least ${number(least)}${unit}`];
  }
  return most === undefined ? [] : [`at most ${number(most)}${unit}`];
}

function wordsOfRule(name: string, value: JsonValue): string[] {
  switch (name) {
    case "string":
    case "uint32":
    case "float":
    case "enum":
    case "map":
    case "repeated":
    case "items":
    case "duration":
      return messageOf(value);
    case "bytes":
      return messageOf(value, "bytes");
    case "required":
      return ["required"];
    case "cel":
      return listOf(value).map((rule) => String(fieldsOf(rule)["message"]).replace(/^value must be /, ""));
    case "max_bytes":
      return [`at most ${number(value)} bytes`];
    case "pattern":
      return [`matches \`${value}\``];
    case "defined_only":
      return ["one of the values below"];
    case "max_items":
      return [`at most ${number(value)}`];
    case "max_pairs":
      return [`at most ${number(value)} pairs`];
    case "keys":
      return messageOf(value).map((words) => `each key ${words}`);
    case "values":
      return messageOf(value).map((words) => `each value ${words}`);
    default:
      throw new Error(`the rule ${name} has no words yet`);
  }
}

/** 64-bit numbers and durations, such as `60s`, are texts in JSON. */
function number(value: JsonValue): string {
  const seconds = typeof value === "string" ? /^(.+)s$/.exec(value)?.[1] : undefined;
  if (seconds !== undefined) {
    return `${number(seconds)} s`;
  }
  return Number(value).toLocaleString("en-US");
}

function fieldsOf(value: JsonValue) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`not a message: ${JSON.stringify(value)}`);
  }
  return value;
}

function listOf(value: JsonValue): readonly JsonValue[] {
  return Array.isArray(value) ? value : [value];
}
