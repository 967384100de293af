import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type DescMessage, getOption, hasOption, type JsonObject, ScalarType, toJson } from "@bufbuild/protobuf";
import { FieldRulesSchema, field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { CliError } from "../src/cli/errors.js";
import { lorasOption, requestOptions } from "../src/cli/options/client-options.js";
import { type OptionGroup, parseOptions } from "../src/cli/options/option.js";
import { schedulersByName } from "../src/client/scheduler-names.js";
import { defaultStrength as engineStrength } from "../src/engine/strength.js";
import { GenerationOptionsSchema, LoraSchema, SchedulerSchema } from "../src/gen/throughline/v1/image_pb.js";
import { GenerateRequestSchema } from "../src/gen/throughline/v1/pipeline_pb.js";
import { InferRequestSchema } from "../src/gen/throughline/v1/worker_pb.js";
import { defaultStrength, type NumberRange, requestLimits } from "../src/request-limits.js";
import { createTestMesh } from "../src/testing/testing.js";

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What the contract's rules say of a field; numbers in JSON's form. */
function rulesOf(message: DescMessage, name: string): JsonObject {
  const field = message.fields.find(({ localName }) => localName === name);
  assert.ok(field !== undefined, `${message.name} has no ${name}`);
  const rules = hasOption(field, fieldRules) ? toJson(FieldRulesSchema, getOption(field, fieldRules)) : {};
  assert.ok(isObject(rules));
  return rules;
}

/** The range and the multiple that the contract asks of a number. */
function rangeOf(message: DescMessage, name: string): NumberRange {
  const field = message.fields.find(({ localName }) => localName === name);
  const whole = field?.scalar === ScalarType.UINT32;
  const { uint32, float, cel } = rulesOf(message, name);
  const range = isObject(uint32) ? uint32 : isObject(float) ? float : {};
  const [multiple] = Array.isArray(cel) ? cel : [];
  const step = isObject(multiple) ? /^this % (\d+)u == 0u$/.exec(String(multiple["expression"]))?.[1] : undefined;
  return {
    min: Number(range["gte"] ?? 0),
    max: Number(range["lte"] ?? 2 ** 32 - 1),
    ...(whole && { step: Number(step ?? 1) }),
  };
}

/** A rule with one number, such as the longest length of a text. */
function numberOf(message: DescMessage, name: string, kind: string, rule: string): number {
  const rules = rulesOf(message, name)[kind];
  return isObject(rules) ? Number(rules[rule]) : Number.NaN;
}

const options = GenerationOptionsSchema;

suite("request limits", () => {
  test("every limit is that of the contract's rules", () => {
    assert.deepEqual(requestLimits, {
      maxPromptLength: numberOf(GenerateRequestSchema, "prompt", "string", "maxLen"),
      side: rangeOf(options, "width"),
      steps: rangeOf(options, "numInferenceSteps"),
      guidance: rangeOf(options, "guidanceScale"),
      seed: rangeOf(options, "seed"),
      quality: rangeOf(options, "quality"),
      maxInitImageBytes: numberOf(options, "initImage", "bytes", "maxLen"),
      strength: rangeOf(options, "strength"),
      maxLoras: numberOf(options, "loras", "repeated", "maxItems"),
      maxLoraNameLength: numberOf(LoraSchema, "name", "string", "maxLen"),
      loraScale: rangeOf(LoraSchema, "scale"),
      clipSkip: rangeOf(options, "clipSkip"),
      guidanceRescale: rangeOf(options, "guidanceRescale"),
      maxTraceContextEntries: numberOf(InferRequestSchema, "traceContext", "map", "maxPairs"),
    });
  });

  test("default strength is the engine's", () => {
    assert.equal(defaultStrength, engineStrength);
  });

  test("fields that share a limit have the same rule", () => {
    assert.equal(numberOf(options, "negativePrompt", "string", "maxLen"), requestLimits.maxPromptLength);
    assert.deepEqual(rangeOf(options, "height"), requestLimits.side);
    assert.equal(rangeOf(options, "previewInterval").max, requestLimits.steps.max);
  });

  /** Whether the command line accepts a value of a flag. */
  function acceptsFlag(group: OptionGroup, name: string, value: string): boolean {
    try {
      return parseOptions(group, [`${group[name]?.long}=${value}`])[name] !== undefined;
    } catch (error) {
      assert.ok(error instanceof CliError);
      return false;
    }
  }

  const { steps } = requestLimits;
  const ranges: readonly (readonly [flag: keyof typeof requestOptions, range: NumberRange])[] = [
    ["width", requestLimits.side],
    ["height", requestLimits.side],
    ["steps", steps],
    ["guidance", requestLimits.guidance],
    ["seed", requestLimits.seed],
    ["quality", requestLimits.quality],
    ["clipSkip", requestLimits.clipSkip],
    ["guidanceRescale", requestLimits.guidanceRescale],
    ["strength", requestLimits.strength],
    // 0 is its absence.
    ["previewInterval", { ...steps, min: 1 }],
  ];
  for (const [flag, { min, max, step }] of ranges) {
    test(`${requestOptions[flag].long} takes both ends, and nothing beyond them or between its steps`, () => {
      const takes = (value: number) => acceptsFlag(requestOptions, flag, String(value));
      const wrong = [min - (step ?? 1), max + (step ?? 1), ...(step === undefined ? [] : [min + step / 2])];
      assert.deepEqual([min, max].filter(takes), [min, max]);
      assert.deepEqual(wrong.filter(takes), []);
    });
  }

  test("--lora takes both ends of the scale, each name once, and no more names than a request", () => {
    const takes = (value: string) => acceptsFlag({ loras: lorasOption }, "loras", value);
    const { min, max } = requestLimits.loraScale;
    const names = (count: number) => Array.from({ length: count }, (_, index) => `lora-${index}`).join(",");
    const right = [`a:${min}`, `a:${max}`, "a:-0.5", "a", names(requestLimits.maxLoras)];
    const wrong = [`a:${min - 1}`, `a:${max + 1}`, "a:", "a:b", ":1", "", "a,a:1", names(requestLimits.maxLoras + 1)];
    assert.deepEqual(right.filter(takes), right);
    assert.deepEqual(wrong.filter(takes), []);
  });

  test("--scheduler takes every scheduler of the contract", () => {
    const known = SchedulerSchema.values.filter(({ number }) => number !== 0).map(({ number }) => number);
    assert.deepEqual([...schedulersByName.values()].sort(), known.sort());
    const names = [...schedulersByName.keys()];
    assert.deepEqual(
      names.filter((name) => acceptsFlag(requestOptions, "scheduler", name)),
      names,
    );
  });

  test("prompt that grows when cleaned has the same length limit", async (t) => {
    const most = requestLimits.maxPromptLength;
    // NFC writes U+0958 as two code points.
    const doubled = "\u0958".repeat(most / 2);
    const mesh = await createTestMesh();
    t.after(() => mesh.stop());
    await mesh.pipeline.generate({ prompt: doubled });
    await assert.rejects(mesh.pipeline.generate({ prompt: `${doubled}a` }), (error) => {
      assert.ok(error instanceof ConnectError);
      assert.equal(error.code, Code.InvalidArgument);
      assert.ok(error.rawMessage.includes(`${most} code points, this one has ${most + 1}`), error.rawMessage);
      return true;
    });
  });
});
