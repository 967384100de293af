import type { Meter } from "@opentelemetry/api";
import type { ImageStore } from "./image-store.js";
import { ImageStoreError } from "./image-store-error.js";

/** Runs work on a store, and counts its failure. */
export type CountStoreFailures = <T>(work: () => Promise<T>) => Promise<T>;

/** Create the counter of failed writes to the image store: `throughline.image_store.failures`. */
export function createStoreFailureCounter(meter: Meter): CountStoreFailures {
  const failures = meter.createCounter("throughline.image_store.failures", {
    unit: "{failure}",
    description: "Images that could not be stored, by reason.",
  });
  const attribute = "throughline.image_store.failure";
  // Zeros too: a series that starts with the first failure shows no increase.
  for (const reason of ["full", "unavailable", "other"]) {
    failures.add(0, { [attribute]: reason });
  }
  return async (work) => {
    try {
      return await work();
    } catch (error) {
      failures.add(1, { [attribute]: error instanceof ImageStoreError ? error.reason : "other" });
      throw error;
    }
  };
}

/** Count the failed writes of a store. */
export function countFailures(store: ImageStore, meter: Meter): ImageStore {
  const counted = createStoreFailureCounter(meter);
  const { urlOf } = store;
  return {
    put: (image) => counted(() => store.put(image)),
    get: (fileName) => store.get(fileName),
    urlOf: urlOf && ((fileName) => urlOf.call(store, fileName)),
  };
}
