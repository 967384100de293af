import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { type DescMessage, getOption, hasOption, type JsonObject, ScalarType, toJson } from "@bufbuild/protobuf";
import { FieldRulesSchema, field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { CliError } from "../../src/cli/errors.js";
import { requestOptions } from "../../src/cli/options/client-options.js";
import { parseOptions } from "../../src/cli/options/option.js";
import {
  Delivery,
  GenerateRequestSchema,
  GenerationOptionsSchema,
  Scheduler,
  SchedulerSchema,
} from "../../src/contracts/contracts.js";
import { checkForm, type NumberRule, numberRules } from "../../src/page/request/form-rules.js";
import {
  emptyForm,
  fieldFor,
  formFromFragment,
  maxPromptLength,
  requestOf,
  schedulers,
  shareFragment,
  traceFromFragment,
} from "../../src/page/request/request-form.js";
import { createTestMesh } from "../../src/testing/testing.js";

test("empty field is omitted, and the image is delivered in the response", () => {
  assert.deepEqual(requestOf({ ...emptyForm, prompt: "a red heart" }), {
    prompt: "a red heart",
    workerApp: "",
    options: { delivery: Delivery.DATA_URI, previewInterval: 1 },
  });
});

test("filled fields are sent, including 0", () => {
  const form = {
    prompt: "a red heart",
    negativePrompt: "blue",
    workerApp: "local/other",
    width: "128",
    height: "64",
    steps: "90",
    guidance: "0",
    seed: "0",
    scheduler: "dpmpp-2m-karras",
  };
  assert.deepEqual(requestOf(form), {
    prompt: "a red heart",
    workerApp: "local/other",
    options: {
      negativePrompt: "blue",
      width: 128,
      height: 64,
      numInferenceSteps: 90,
      guidanceScale: 0,
      seed: 0,
      scheduler: Scheduler.DPMPP_2M_KARRAS,
      delivery: Delivery.DATA_URI,
      previewInterval: 3,
    },
  });
});

test("each field that the contract would reject is marked with its limits", () => {
  const wrong = checkForm({
    ...emptyForm,
    prompt: " ",
    negativePrompt: "x".repeat(2001),
    width: "100",
    height: "4096",
    steps: "1.5",
    guidance: "31",
    seed: "-1",
  });
  assert.deepEqual(Object.fromEntries(wrong), {
    prompt: "Enter a prompt.",
    negativePrompt: "2001 characters are too many: at most 2000 are taken.",
    width: "A multiple of 8 from 64 to 2048.",
    height: "A multiple of 8 from 64 to 2048.",
    steps: "A whole number from 1 to 150.",
    guidance: "A number from 0 to 30.",
    seed: "A whole number from 0 to 4294967295. Leave it empty for a random one.",
  });
});

test("form at the limits is valid", () => {
  const form = { ...emptyForm, prompt: "😀".repeat(2000), width: "64", height: "2048", steps: "150", guidance: "7.5" };
  assert.equal(checkForm({ ...form, seed: String(numberRules.seed.max) }).size, 0);
});

test("text that is no number is rejected", () => {
  assert.deepEqual([...checkForm({ ...emptyForm, prompt: "x", steps: "many", seed: "NaN" }).keys()], ["steps", "seed"]);
});

test("field path of the contract maps to its form field", () => {
  assert.equal(fieldFor("request.options.num_inference_steps"), "steps");
  assert.equal(fieldFor("options.width"), "width");
  assert.equal(fieldFor("prompt"), "prompt");
  assert.equal(fieldFor("options.format"), undefined);
});

describe("share link", () => {
  const form = {
    prompt: "ein Herz & 100 % 'rot' <b>#1</b> 😀",
    negativePrompt: "a=b",
    workerApp: "local/text-to-image-worker",
    width: "128",
    height: "64",
    steps: "12",
    guidance: "4.5",
    seed: "7",
    scheduler: "ddim",
  };

  test("share link restores its form", () => {
    assert.deepEqual(formFromFragment(shareFragment(form)), form);
    assert.deepEqual(formFromFragment(new URL(`http://127.0.0.1/${shareFragment(form)}`).hash), form);
  });

  test("share link omits default values", () => {
    assert.equal(shareFragment({ ...emptyForm, prompt: "a red heart", seed: "7" }), "#prompt=a+red+heart&seed=7");
  });

  test("fragment without form fields is ignored", () => {
    assert.equal(formFromFragment(""), undefined);
    assert.equal(formFromFragment("#image"), undefined);
    assert.equal(formFromFragment("#constructor=1&__proto__=2"), undefined);
  });

  test("a link to a trace gives its id, and no form", () => {
    const traceId = "4e59a70947e16460dd0641a9b92f3047";
    assert.equal(traceFromFragment(`#trace=${traceId}`), traceId);
    assert.equal(formFromFragment(`#trace=${traceId}`), undefined);
    assert.deepEqual(["", "#trace=", `#trace=${traceId}0`, "#prompt=a"].map(traceFromFragment), [
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("long values in a share link are cut by code points", () => {
    const read = formFromFragment(`#prompt=${"😀".repeat(3000)}&steps=${"9".repeat(1000)}`);
    assert.equal([...(read?.prompt ?? "")].length, 2000);
    assert.equal(read?.steps.length, 128);
  });
});

describe("request limits", () => {
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
});
