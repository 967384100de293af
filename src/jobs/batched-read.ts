/** Most ids in one query. */
const batchSize = 200;

/**
 * Reads rows by id, one query at a time: the rows that are asked for while a query is on its way are read by the next one. A caller never gets
 * a row from a query that was sent before it asked.
 */
export function createBatchedRead<Row>(
  readAll: (ids: readonly string[]) => Promise<ReadonlyMap<string, Row>>,
): (id: string) => Promise<Row | undefined> {
  let next = new Map<string, PromiseWithResolvers<Row | undefined>>();
  let isReading = false;

  const readNext = async (): Promise<void> => {
    isReading = true;
    while (next.size > 0) {
      const batch = new Map([...next].slice(0, batchSize));
      next = new Map([...next].slice(batchSize));
      try {
        const rows = await readAll([...batch.keys()]);
        for (const [id, { resolve }] of batch) {
          resolve(rows.get(id));
        }
      } catch (error) {
        for (const { reject } of batch.values()) {
          reject(error);
        }
      }
    }
    isReading = false;
  };

  return (id) => {
    const entry = next.get(id) ?? withResolvers<Row | undefined>();
    next.set(id, entry);
    if (!isReading) {
      void readNext();
    }
    return entry.promise;
  };
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** Node 20 has no `Promise.withResolvers`. */
function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
