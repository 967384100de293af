import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type DescMessage, fromJsonString } from "@bufbuild/protobuf";
import { StructSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { StringRulesSchema, ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { GenerateRequestSchema, GenerateStreamRequestSchema } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { InferRequestSchema, InferStreamResponseSchema } from "../../../src/gen/throughline/v1/worker_pb.js";
import { checkJson } from "../../../src/mesh/serve/json-check.js";
import { createRandom } from "../support/random.js";

const schedulers =
  "SCHEDULER_UNSPECIFIED, SCHEDULER_EULER_DISCRETE, SCHEDULER_EULER_ANCESTRAL, SCHEDULER_DPMPP_2M, SCHEDULER_DPMPP_2M_KARRAS, SCHEDULER_DDIM, SCHEDULER_LCM";

suite("what is wrong with a request", () => {
  const cases: readonly (readonly [json: string, problem: string | undefined])[] = [
    ['{"prompt":"a red heart","options":{"numInferenceSteps":4},"worker_app":""}', undefined],
    ["{}", undefined],
    ['{"prompt":null,"options":null}', undefined],
    ['{"CANARY":{"CANARY":[1,{"prompt":1}]},"prompt":"x"}', undefined],
    ['{"options":{"width":"64","guidance_scale":"7.5","scheduler":3}}', undefined],
    ['{"prompt":', "malformed JSON"],
    ["", "malformed JSON"],
    ["CANARY", "malformed JSON"],
    ['{"prompt":"CANARY" "x":1}', "malformed JSON at position 19"],
    ["[]", "expected object (GenerateRequest)"],
    ['"CANARY"', "expected object (GenerateRequest)"],
    ["null", "expected object (GenerateRequest)"],
    ['{"prompt":5}', "prompt: expected string"],
    ['{"prompt":["CANARY"]}', "prompt: expected string"],
    ['{"prompt":"\\ud800 CANARY"}', "prompt: expected string"],
    ['{"worker_app":{"CANARY":1}}', "worker_app: expected string"],
    ['{"options":"CANARY"}', "options: expected object (GenerationOptions)"],
    ['{"options":{"width":"CANARY"}}', "options.width: expected uint32"],
    ['{"options":{"width":-8}}', "options.width: expected uint32"],
    ['{"options":{"width":64.5}}', "options.width: expected uint32"],
    ['{"options":{"seed":4294967296}}', "options.seed: expected uint32"],
    ['{"options":{"numInferenceSteps":true}}', "options.num_inference_steps: expected uint32"],
    ['{"options":{"guidance_scale":"CANARY"}}', "options.guidance_scale: expected float"],
    ['{"options":{"guidance_scale":1e300}}', "options.guidance_scale: expected float"],
    ['{"options":{"scheduler":"CANARY"}}', `options.scheduler: expected one of ${schedulers}`],
    ['{"options":{"scheduler":1.5}}', `options.scheduler: expected one of ${schedulers}`],
    ['{"prompt":"x","prompt":"CANARY"}', "prompt: set more than once"],
    ['{"prompt":"x","\\u0070rompt":"CANARY"}', "prompt: set more than once"],
    ['{"worker_app":"","workerApp":"CANARY"}', "worker_app: set more than once"],
    ['{"options":{"width":64,"width":64}}', "options.width: set more than once"],
    ['{"options":{"num_inference_steps":1,"numInferenceSteps":1}}', "options.num_inference_steps: set more than once"],
    ['{"CANARY":1,"CANARY":2}', "set more than once"],
    ['{"options":{"CANARY":1,"CANARY":2}}', "options: set more than once"],
  ];
  for (const [json, problem] of cases) {
    test(json.length > 0 ? json : "(nothing)", () => {
      assert.equal(checkJson(GenerateRequestSchema, json), problem);
    });
  }

  test("a map names its value type, and no key", () => {
    const expected = "trace_context: expected object with string values";
    for (const value of ["1", "null", '["CANARY"]', '{"CANARY":1}', "true"]) {
      assert.equal(checkJson(InferRequestSchema, `{"trace_context":{"traceparent":"x","CANARY":${value}}}`), expected);
    }
    for (const value of ["[]", '"CANARY"', "1"]) {
      assert.equal(checkJson(InferRequestSchema, `{"traceContext":${value}}`), expected);
    }
    assert.equal(
      checkJson(InferRequestSchema, '{"trace_context":{"CANARY":"","CANARY":""}}'),
      "trace_context: set more than once",
    );
    assert.equal(checkJson(InferRequestSchema, '{"trace_context":{"__proto__":"x","constructor":"y"}}'), undefined);
  });

  test("a nested request names its whole path", () => {
    assert.equal(
      checkJson(GenerateStreamRequestSchema, '{"request":{"options":{"seed":""}}}'),
      "request.options.seed: expected uint32",
    );
  });

  test("lists, oneofs, bytes, 64-bit numbers and messages with a JSON form of their own", () => {
    const at = (json: string) => checkJson(ViolationsSchema, json);
    assert.equal(at('{"violations":{}}'), "violations: expected array of Violation");
    assert.equal(at('{"violations":[{},{"rule_id":1}]}'), "violations.1.rule_id: expected string");
    assert.equal(at('{"violations":[null]}'), "violations.0: expected Violation");
    assert.equal(
      at('{"violations":[{"field":{"elements":[{"index":1,"stringKey":"CANARY"}]}}]}'),
      "violations.0.field.elements.0.subscript: set more than once",
    );
    assert.equal(
      at('{"violations":[{"field":{"elements":[{"index":"-1"}]}}]}'),
      "violations.0.field.elements.0.index: expected uint64",
    );
    const preview = '{"progress":{"preview":"CANARY!"}}';
    assert.equal(checkJson(InferStreamResponseSchema, preview), "progress.preview: expected bytes");
    assert.equal(checkJson(TimestampSchema, '"CANARY"'), "expected google.protobuf.Timestamp");
    assert.equal(checkJson(TimestampSchema, '"1970-01-01T00:00:00Z"'), undefined);
    assert.equal(checkJson(StructSchema, '{"a":[1,{"b":null}]}'), undefined);
  });
});

test("what nests deeper than 100 is refused before it is parsed, brackets in strings aside", () => {
  const nested = (depth: number) => `{"x":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}}`;
  assert.equal(checkJson(GenerateRequestSchema, nested(100)), undefined);
  assert.equal(checkJson(GenerateRequestSchema, nested(101)), "nested too deeply");
  assert.equal(checkJson(StructSchema, nested(200_000)), "nested too deeply");
  assert.equal(checkJson(GenerateRequestSchema, "[".repeat(200_000)), "nested too deeply");
  assert.equal(checkJson(GenerateRequestSchema, `{"prompt":"${"[{".repeat(100)}\\"${"[{".repeat(100)}"}`), undefined);
  assert.equal(checkJson(GenerateRequestSchema, `{"x":[${"[],{},".repeat(1_000)}0]}`), undefined);
});

test("how often the decoder is asked does not grow with the number of elements", () => {
  /** How often anything of the message type was looked at while a text was checked. */
  const looks = (schema: DescMessage, text: string, problem: string | undefined): number => {
    let count = 0;
    const counting = new Proxy(schema, {
      get(target, key, receiver) {
        count++;
        return Reflect.get(target, key, receiver);
      },
    });
    assert.equal(checkJson(counting, text), problem);
    return count;
  };
  const carrier = (elements: number, last: string) =>
    `{"trace_context":{${Array.from({ length: elements }, (_, i) => `"${i}":"x",`).join("")}"CANARY":${last}}}`;
  const list = (elements: number, last: string) => `{"in":[${'"x",'.repeat(elements)}${last}]}`;
  const cases: readonly (readonly [
    DescMessage,
    typeof carrier,
    last: string,
    (elements: number) => string | undefined,
  ])[] = [
    [InferRequestSchema, carrier, '"x"', () => undefined],
    [InferRequestSchema, carrier, "1", () => "trace_context: expected object with string values"],
    [StringRulesSchema, list, '"x"', () => undefined],
    [StringRulesSchema, list, "1", (elements) => `in.${elements}: expected string`],
  ];
  for (const [schema, text, last, problem] of cases) {
    const few = looks(schema, text(10, last), problem(10));
    const many = looks(schema, text(1_000, last), problem(1_000));
    assert.ok(many < 5 * few, `${schema.name}, ${last}: ${few} looks for 10 elements, ${many} for 1,000`);
  }
});

test("a long text is walked without recursion", () => {
  assert.equal(checkJson(GenerateRequestSchema, `{"prompt":"${"\\n".repeat(2_000_000)}"}`), undefined);
});

test("it agrees with the decoder, and never quotes, over 3,000 mutations of a request", () => {
  const random = createRandom(20_261_122);
  const whole =
    '{"prompt":"CANARY","trace_context":{"traceparent":"CANARY","CANARY":"b"},"options":{"width":64,"guidanceScale":7.5,"scheduler":"SCHEDULER_DDIM"}}';
  const pieces = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    "null",
    "1",
    "-1e9",
    '"CANARY"',
    "true",
    "\\",
    '"width":1',
    "\ud800",
    "CANARY",
  ];
  let refused = 0;
  for (let i = 0; i < 3_000; i++) {
    const from = random.below(whole.length);
    const to = from + random.below(8);
    const text = whole.slice(0, from) + random.pick(pieces) + whole.slice(to);
    const problem = checkJson(InferRequestSchema, text);
    if (problem === undefined) {
      assert.doesNotThrow(() => fromJsonString(InferRequestSchema, text, { ignoreUnknownFields: true }), text);
    } else {
      refused++;
      assert.doesNotMatch(problem, /CANARY/);
      // Unknown enum names are ours alone to refuse.
      if (!problem.includes("expected one of")) {
        assert.throws(() => fromJsonString(InferRequestSchema, text, { ignoreUnknownFields: true }), text);
      }
    }
  }
  assert.ok(refused > 1_000 && refused < 3_000, `${refused} refused`);
});
