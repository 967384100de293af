/** What waits for its export, spans or log records, as the request it will be. */
export interface ExportBatch {
  readonly items: number;
  /** The encoded request. */
  readonly request: Uint8Array;
}

export interface ExportQueueLimits {
  readonly maxItems: number;
  /** Of the encoded requests together. */
  readonly maxBytes: number;
}

/** Batches in the order in which they came, within limits of items and of bytes. The oldest give way to the newest. */
export interface ExportQueue {
  /** Items that wait. */
  items(): number;
  /** Adds the newest batch. @returns how many items gave way, the batch's own if it is larger than the queue. */
  add(batch: ExportBatch): number;
  /** Takes the oldest batch. */
  take(): ExportBatch | undefined;
  /** Puts back what `take` took. @returns how many items gave way. */
  putBack(batch: ExportBatch): number;
  /** Empties the queue. @returns how many items were in it. */
  clear(): number;
}

export function createExportQueue({ maxItems, maxBytes }: ExportQueueLimits): ExportQueue {
  const batches: ExportBatch[] = [];
  let items = 0;
  let bytes = 0;
  const count = (batch: ExportBatch, sign: 1 | -1) => {
    items += sign * batch.items;
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
    const before = items;
    while (items > maxItems || bytes > maxBytes) {
      take();
    }
    return before - items;
  };
  return {
    items: () => items,
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
      const cleared = items;
      batches.length = 0;
      items = 0;
      bytes = 0;
      return cleared;
    },
  };
}
