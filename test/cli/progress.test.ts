import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { createProgress, showEvent } from "../../src/cli/terminal/progress.js";
import { Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { GenerateStreamResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";

const progressEvent = (stage: Stage, step = 0, totalSteps = 0) =>
  create(GenerateStreamResponseSchema, { event: { case: "progress", value: { stage, step, totalSteps } } });
const queuedEvent = (position: number) =>
  create(GenerateStreamResponseSchema, { event: { case: "queued", value: { position } } });

const eventsOfOneRequest = [
  queuedEvent(2),
  queuedEvent(0),
  progressEvent(Stage.TEXT_ENCODING),
  progressEvent(Stage.DENOISING),
  progressEvent(Stage.DENOISING, 1, 2),
  progressEvent(Stage.DENOISING, 2, 2),
  progressEvent(Stage.VAE_DECODE),
  progressEvent(Stage.UPLOAD),
];

/** What is written while one request runs. */
function write(quiet: boolean, isTTY: boolean, events = eventsOfOneRequest): string {
  const output = Object.assign(new PassThrough({ encoding: "utf8" }), { isTTY, columns: 80 });
  const progress = createProgress(output, quiet);
  progress.phase("starting the services");
  for (const event of events) {
    showEvent(progress, event);
  }
  progress.end();
  progress.end();
  progress.phase("too late");
  return String(output.read() ?? "");
}

suite("progress", () => {
  test("is a line for each phase where no terminal is", () => {
    assert.equal(
      write(false, false),
      `starting the services
waiting behind 2
waiting, next in line
encoding the prompt
denoising
decoding the picture
storing the picture
`,
    );
  });

  test("is a bar on a terminal, which is taken off at the end and changes no mode of it", () => {
    const written = write(false, true);
    assert.match(written, /denoising +░{30} /);
    assert.match(written, /decoding the picture +█{30} 2 of 2/);
    assert.doesNotMatch(written, /too late/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are steered by them.
    assert.doesNotMatch(written, /\u001b\[\?/);
  });

  test("says that something goes on where a newer pipeline names an unknown stage", () => {
    // GenerateStreamResponse { progress { stage: 99 } }
    const event = fromBinary(GenerateStreamResponseSchema, Uint8Array.of(0x12, 0x02, 0x08, 99));
    for (const isTTY of [true, false]) {
      assert.match(write(false, isTTY, [event]), /working/);
    }
  });

  test("is nothing when it shall be quiet", () => {
    assert.equal(write(true, true), "");
    assert.equal(write(true, false), "");
  });
});
