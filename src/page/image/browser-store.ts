import type { HistoryEntry, HistoryStore } from "./history.js";

const database = "throughline-studio";
const images = "images";

/** A history in the browser's IndexedDB, which holds images as they are. */
export function createIndexedHistory(factory: IDBFactory): HistoryStore {
  const opened = open(factory);
  // Each use rejects with the failure to open.
  opened.catch(() => {});
  return {
    async load() {
      return result<HistoryEntry[]>((await opened).transaction(images).objectStore(images).getAll());
    },
    async save(entry) {
      await result((await opened).transaction(images, "readwrite").objectStore(images).put(entry));
    },
    async remove(ids) {
      const store = (await opened).transaction(images, "readwrite").objectStore(images);
      await Promise.all(ids.map((id) => result(store.delete(id))));
    },
  };
}

function open(factory: IDBFactory): Promise<IDBDatabase> {
  const request = factory.open(database, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore(images, { keyPath: "id" });
  };
  return result(request);
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const side = 160;

/** A small WebP of an image, 160 pixels on its longer side at most. */
export async function makeThumbnail(image: Blob): Promise<Blob> {
  const bitmap = await createImageBitmap(image);
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/webp", quality: 0.85 });
}
