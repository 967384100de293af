/** Spans that wait for their export, as the request they will be. */
export interface SpanBatch {
  readonly spans: number;
  /** An encoded `ExportTraceServiceRequest`. */
  readonly request: Uint8Array;
}

export interface ExportQueueLimits {
  readonly maxSpans: number;
  /** Of the encoded requests together. */
  readonly maxBytes: number;
}

/** Batches in the order in which they came, within limits of spans and of bytes. The oldest give way to the newest. */
export interface ExportQueue {
  /** Spans that wait. */
  spans(): number;
  /** Adds the newest batch. @returns how many spans gave way, the batch's own if it is larger than the queue. */
  add(batch: SpanBatch): number;
  /** Takes the oldest batch. */
  take(): SpanBatch | undefined;
  /** Puts back what `take` took. @returns how many spans gave way. */
  putBack(batch: SpanBatch): number;
  /** Empties the queue. @returns how many spans were in it. */
  clear(): number;
}

export function createExportQueue({ maxSpans, maxBytes }: ExportQueueLimits): ExportQueue {
  const batches: SpanBatch[] = [];
  let spans = 0;
  let bytes = 0;
  const count = (batch: SpanBatch, sign: 1 | -1) => {
    spans += sign * batch.spans;
    bytes += sign * batch.request.byteLength;
  };
  const take = () => {
    const batch = batches.shift();
    if (batch) {
      count(batch, -1);
    }
    return batch;
  };
  const shrink = () => {
    const before = spans;
    while (spans > maxSpans || bytes > maxBytes) {
      take();
    }
    return before - spans;
  };
  return {
    spans: () => spans,
    add(batch) {
      batches.push(batch);
      count(batch, 1);
      return shrink();
    },
    take,
    putBack(batch) {
      batches.unshift(batch);
      count(batch, 1);
      return shrink();
    },
    clear() {
      const cleared = spans;
      batches.length = 0;
      spans = 0;
      bytes = 0;
      return cleared;
    },
  };
}
