import { context, createContextKey, ROOT_CONTEXT } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";

/**
 * Makes contexts follow the code across `await`. It is the one global that tracing sets: an application has one, however many
 * tracer providers live in it. Does nothing where one is at work, ours or an application's own.
 */
export function installContextManager(): void {
  const key = createContextKey("context manager probe");
  const works = context.with(ROOT_CONTEXT.setValue(key, true), () => context.active().getValue(key) === true);
  if (!works) {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  }
}
