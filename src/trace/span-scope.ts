import { type Context, context, type Span, SpanKind, type SpanOptions, type Tracer, trace } from "@opentelemetry/api";
import { bindIterable } from "../otelconnect/bind-iterable.js";
import { settleFailure, settleLeft } from "./settle-span.js";

/** What a span starts with. */
export interface SpanScopeOptions extends SpanOptions {
  /** Context with the parent span. It is always said, so that no span gets a parent by accident. */
  readonly parent: Context;
}

/** Work inside a span: gets the span, and the context in which it is the current one. */
export type InSpan<T> = (span: Span, scope: Context) => T;

/**
 * Runs `work` in a new span and ends the span exactly once, when the work is done or has failed. While it runs, the span is the
 * active one. A failure is written on the span by the rules of `settleFailure` and thrown on.
 */
export async function withSpan<T>(
  tracer: Tracer,
  name: string,
  options: SpanScopeOptions,
  work: InSpan<Promise<T> | T>,
): Promise<T> {
  const { span, scope, kind } = startSpan(tracer, name, options);
  try {
    return await context.with(scope, () => work(span, scope));
  } catch (error) {
    settleFailure(span, kind, error);
    throw error;
  } finally {
    span.end();
  }
}

/**
 * The same for work that gives its results one by one. Each iteration is a span of its own: it starts with the iteration and ends
 * when the source is at its end, fails, or the consumer leaves; a consumer that leaves before the end makes a cancelled span, so
 * go on to the end of what is wanted whole. The span is active at every step, also inside an async generator.
 */
export function iterateWithSpan<T>(
  tracer: Tracer,
  name: string,
  options: SpanScopeOptions,
  work: InSpan<AsyncIterable<T>>,
): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const { span, scope, kind } = startSpan(tracer, name, options);
      return bindIterable(scope, () => work(span, scope), {
        done: () => span.end(),
        failed(error) {
          settleFailure(span, kind, error);
          span.end();
        },
        left() {
          settleLeft(span, kind);
          span.end();
        },
      });
    },
  };
}

function startSpan(tracer: Tracer, name: string, { parent, ...options }: SpanScopeOptions) {
  const span = tracer.startSpan(name, options, parent);
  return { span, scope: trace.setSpan(parent, span), kind: options.kind ?? SpanKind.INTERNAL };
}
