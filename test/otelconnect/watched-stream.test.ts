import assert from "node:assert/strict";
import test from "node:test";
import { context, createContextKey, ROOT_CONTEXT } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { type StreamWatcher, watchStream } from "../../src/otelconnect/watched-stream.js";

context.setGlobalContextManager(new AsyncLocalStorageContextManager());

async function* numbers(count: number, failure?: Error): AsyncGenerator<number> {
  for (let number = 1; number <= count; number++) {
    yield number;
  }
  if (failure !== undefined) {
    throw failure;
  }
}

/** Watcher that writes its events, by name, into a shared list. */
function recorder(name: string, events: string[]): StreamWatcher<number> {
  return {
    message: (value) => events.push(`${name} ${value}`),
    done: () => events.push(`${name} done`),
    failed: (error) => events.push(`${name} failed: ${error instanceof Error ? error.message : ""}`),
    left: () => events.push(`${name} left`),
  };
}

test("all watchers of a stream share one iterator, the inner called first", async () => {
  const events: string[] = [];
  const inner = watchStream(numbers(2), recorder("inner", events));
  const outer = watchStream(inner, recorder("outer", events));
  assert.equal(outer, inner);
  for await (const _ of outer) {
  }
  assert.deepEqual(events, ["inner 1", "outer 1", "inner 2", "outer 2", "inner done", "outer done"]);
});

test("a stream that is already being read gets an iterator of its own for another watcher", async () => {
  const events: string[] = [];
  const inner = watchStream(numbers(2), recorder("inner", events));
  await inner.next();
  const outer = watchStream(inner, recorder("outer", events));
  assert.notEqual(outer, inner);
  await outer.next();
  assert.deepEqual(events, ["inner 1", "inner 2", "outer 2"]);
});

test("an error is mapped before the watchers and the reader get it", async () => {
  const events: string[] = [];
  const mapError = (error: unknown) => new Error(`hidden ${error instanceof Error ? error.message : ""}`);
  const inner = watchStream(numbers(0, new Error("cause")), { mapError });
  const outer = watchStream(inner, recorder("outer", events));
  await assert.rejects(outer.next(), /^Error: hidden cause$/);
  assert.deepEqual(events, ["outer failed: hidden cause"]);
});

test("an end is reported once, whether the reader returns, throws, or reads on after the last value", async () => {
  const ends: Record<string, (stream: AsyncIterableIterator<number>) => Promise<unknown>> = {
    left: (stream) => stream.return?.() ?? Promise.reject(new Error("no return")),
    "left by throw": (stream) => assert.rejects(stream.throw?.(new Error("enough")) ?? Promise.resolve(), /enough/),
    done: async (stream) => {
      while ((await stream.next()).done !== true) {}
    },
  };
  for (const [name, end] of Object.entries(ends)) {
    const events: string[] = [];
    const { message: _, ...ended } = recorder("watcher", events);
    const stream = watchStream(numbers(3), ended);
    await stream.next();
    await end(stream);
    await stream.next();
    await stream.return?.();
    assert.deepEqual(events, [`watcher ${name.split(" ")[0]}`], name);
  }
});

test("the source runs in the innermost scope, whoever reads", async () => {
  const key = createContextKey("who");
  const scopeOf = (name: string) => ROOT_CONTEXT.setValue(key, name);
  async function* active() {
    yield context.active().getValue(key);
  }
  const inner = watchStream(active(), { scope: scopeOf("span") });
  const outer = watchStream(inner, { scope: scopeOf("outer span") });
  const { value } = await context.with(scopeOf("reader"), () => outer.next());
  assert.equal(value, "span");
});
