import assert from "node:assert/strict";
import { CallFailure, type Client, type Message } from "./client.js";

export const generate = "throughline.v1.ImagePipelineService/Generate";
export const generateStream = "throughline.v1.ImagePipelineService/GenerateStream";

/** What a call fails with. */
export async function failureOf(call: Promise<unknown>): Promise<CallFailure> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CallFailure, String(error));
  return error;
}

/** Reads a stream to its end. */
export async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream) {
    // Its end matters.
  }
}

/**
 * Streams an image whose engine makes no second step before its client has seen the first, and checks that all events arrive.
 *
 * @param held engine that stops before its second step, and runs four.
 */
export async function streamStepByStep(client: Client, held: { release(): void }): Promise<void> {
  const steps: number[] = [];
  let hasResult = false;
  for await (const message of client.stream(generateStream, { request: { prompt: "a red heart" } })) {
    const step = stepOf(message) ?? 0;
    if (step > 0) {
      steps.push(step);
      held.release();
    }
    hasResult ||= message["result"] != null;
  }
  assert.deepEqual([...new Set(steps)], [1, 2, 3, 4]);
  assert.ok(hasResult);
}

/** Step of a progress event; undefined for other events. */
function stepOf(message: Message): number | undefined {
  const { progress } = message;
  return typeof progress === "object" && progress !== null && "step" in progress ? Number(progress.step) : undefined;
}
