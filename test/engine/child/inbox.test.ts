import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createInbox } from "../../../src/engine/child/inbox.js";

describe("inbox", () => {
  it("hands out in order what came before and while somebody waits", async () => {
    const inbox = createInbox<number>();
    inbox.push(1);
    inbox.push(2);
    const iterator = inbox[Symbol.asyncIterator]();
    assert.deepEqual([(await iterator.next()).value, (await iterator.next()).value], [1, 2]);
    const waiting = iterator.next();
    inbox.push(3);
    assert.equal((await waiting).value, 3);
  });

  it("fails at once, without what is still in it, and with the first error", async () => {
    const inbox = createInbox<number>();
    inbox.push(1);
    inbox.fail(new Error("first"));
    inbox.fail(new Error("second"));
    inbox.push(2);
    await assert.rejects(inbox[Symbol.asyncIterator]().next(), /first/);
  });

  it("fails somebody who waits", async () => {
    const inbox = createInbox<number>();
    const waiting = inbox[Symbol.asyncIterator]().next();
    inbox.fail(new Error("gone"));
    await assert.rejects(waiting, /gone/);
  });
});
