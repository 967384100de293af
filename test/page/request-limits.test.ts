import assert from "node:assert/strict";
import test from "node:test";
import { type DescMessage, getOption, hasOption, type JsonObject, ScalarType, toJson } from "@bufbuild/protobuf";
import { FieldRulesSchema, field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { CliError } from "../../src/cli/errors.js";
import { requestOptions } from "../../src/cli/options/client-options.js";
import { parseOptions } from "../../src/cli/options/option.js";
import { GenerateRequestSchema, GenerationOptionsSchema, SchedulerSchema } from "../../src/contracts/contracts.js";
import { maxPromptLength, type NumberRule, numberRules, schedulers } from "../../src/page/request/request-form.js";
import { createTestMesh } from "../../src/testing/testing.js";

/*
 * The contract's limits stand in the rules of the .proto files. The form, the flags and the pipeline's second look at a cleaned prompt say
 * them again, in words of their own: here they are held against the rules.
 */

/** What the contract's rules say of a field; numbers in JSON's form. */
function rulesOf(message: DescMessage, name: string): JsonObject {
  const field = message.fields.find(({ localName }) => localName === name);
  assert.ok(field !== undefined, `${message.name} has no ${name}`);
  const rules = hasOption(field, fieldRules) ? toJson(FieldRulesSchema, getOption(field, fieldRules)) : {};
  assert.ok(isObject(rules));
  return rules;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The range and the multiple that the contract asks of an option. */
function ruleOf(name: string): NumberRule {
  const field = GenerationOptionsSchema.fields.find(({ localName }) => localName === name);
  const whole = field?.scalar === ScalarType.UINT32;
  const { uint32, float, cel } = rulesOf(GenerationOptionsSchema, name);
  const range = isObject(uint32) ? uint32 : isObject(float) ? float : {};
  const [multiple] = Array.isArray(cel) ? cel : [];
  const step = isObject(multiple) ? /^this % (\d+)u == 0u$/.exec(String(multiple["expression"]))?.[1] : undefined;
  return {
    min: Number(range["gte"] ?? 0),
    max: Number(range["lte"] ?? 2 ** 32 - 1),
    ...(whole && { step: Number(step ?? 1) }),
  };
}

function longest(message: DescMessage, name: string): number {
  const { string } = rulesOf(message, name);
  return isObject(string) ? Number(string["maxLen"]) : Number.NaN;
}

const optionOf = {
  width: "width",
  height: "height",
  steps: "numInferenceSteps",
  guidance: "guidanceScale",
  seed: "seed",
} as const;

for (const name of ["width", "height", "steps", "guidance", "seed"] as const) {
  const rule = ruleOf(optionOf[name]);
  test(`form field ${name} has the contract's limits`, () => assert.deepEqual(numberRules[name], rule));
  test(`--${name} has the contract's limits`, () => assertTakes(name, rule));
}

test("--preview-interval has the contract's limits except 0, which is its absence", () =>
  assertTakes("previewInterval", { ...ruleOf("previewInterval"), min: 1 }));

/** Whether the command line accepts a value of a flag. */
function acceptsFlag(name: keyof typeof requestOptions, value: string): boolean {
  try {
    return parseOptions(requestOptions, [`${requestOptions[name].long}=${value}`])[name] !== undefined;
  } catch (error) {
    assert.ok(error instanceof CliError);
    return false;
  }
}

/** A flag takes both ends, and nothing beyond them or between its steps. */
function assertTakes(name: keyof typeof optionOf | "previewInterval", { min, max, step }: NumberRule): void {
  const takes = (value: number) => acceptsFlag(name, String(value));
  const wrong = [min - (step ?? 1), max + (step ?? 1), ...(step === undefined ? [] : [min + step / 2])];
  assert.deepEqual([min, max].filter(takes), [min, max]);
  assert.deepEqual(wrong.filter(takes), []);
}

test("form and --scheduler offer every scheduler of the contract", () => {
  const known = SchedulerSchema.values.filter(({ number }) => number !== 0).map(({ number }) => number);
  assert.deepEqual(Array.from(schedulers.values(), ({ value }) => value).sort(), known.sort());
  const takes = (word: string) => acceptsFlag("scheduler", word);
  assert.deepEqual([...schedulers.keys()].filter(takes), [...schedulers.keys()]);
});

test("form's prompt length is the contract's", () => {
  assert.equal(maxPromptLength, longest(GenerateRequestSchema, "prompt"));
  assert.equal(maxPromptLength, longest(GenerationOptionsSchema, "negativePrompt"));
});

test("prompt that grows when cleaned has the same length limit", async (t) => {
  const most = longest(GenerateRequestSchema, "prompt");
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
