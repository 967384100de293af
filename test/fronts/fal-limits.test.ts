import assert from "node:assert/strict";
import type { EventEmitter } from "node:events";
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { suite, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { createLostAnswers, printOf } from "../../src/fronts/fal/lost-answers.js";
import { createPollPace } from "../../src/fronts/fal/poll-pace.js";

suite("polls of fal's clients", () => {
  test("a client above the limit waits, one far above it is rejected, and others are not delayed", async () => {
    const pace = createPollPace({ perSecond: 1_000, maxWaitMs: 20, now: () => 5_000 });
    const waits = Array.from({ length: 1_020 }, () => pace.turn("one"));
    await Promise.all(waits.slice(0, 1_000));
    await assert.rejects(pace.turn("one"), { code: Code.ResourceExhausted });
    await pace.turn("other");
    await Promise.all(waits);
  });
});

suite("answers that fal's clients did not get", () => {
  const responseOf = () => new ServerResponse(new IncomingMessage(new Socket()));
  const settled = (response: EventEmitter, ...events: readonly string[]) => {
    for (const event of events) {
      response.emit(event);
    }
  };

  test("of a client that left before the answer was sent, the job is taken once", async () => {
    const lost = createLostAnswers();
    const response = responseOf();
    lost.watch("print", response, Promise.resolve("job"));
    assert.equal(lost.take("print"), undefined, "its client may still get it");
    settled(response, "close");
    assert.equal(await lost.take("print"), "job");
    assert.equal(lost.take("print"), undefined);
  });

  test("of a client that got its answer, or whose submission failed, none is kept", async () => {
    const lost = createLostAnswers();
    const [sent, failed] = [responseOf(), responseOf()];
    lost.watch("sent", sent, Promise.resolve("job"));
    settled(sent, "finish", "close");
    assert.equal(lost.take("sent"), undefined);
    const failure = Promise.reject(new Error("no job"));
    lost.watch("failed", failed, failure);
    settled(failed, "close");
    await assert.rejects(failure);
    assert.equal(lost.take("failed"), undefined);
  });

  test("the fingerprint tells parts apart", () => {
    assert.notEqual(printOf(["ab", "c"]), printOf(["a", "bc"]));
    assert.equal(printOf(["ab", Buffer.from("c")]), printOf(["ab", "c"]));
  });
});
