import { signal as createSignal, type ReadonlySignal } from "@preact/signals";
import { emptyForm, type RequestForm } from "../request/request-form.js";
import type { StartImage } from "../request/start-image.js";

/** An image that was generated in this browser. */
export interface HistoryEntry {
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly generatedAtMs: number;
  /** What asked for it, with the seed that was used. */
  readonly form: RequestForm;
  /** The image that it started from. Kept, so that it can be generated again. */
  readonly start?: StartImage | undefined;
  readonly seed: number;
  readonly model: string;
  readonly executionProvider: string;
  /** Empty where tracing was off. */
  readonly traceId: string;
  readonly elapsedMs: number;
  readonly truncatedTokens: number;
  readonly width: number;
  readonly height: number;
  readonly contentType: string;
  readonly image: Blob;
  /** A small form of the image. */
  readonly thumbnail: Blob;
}

/** Where entries outlive the page. */
export interface HistoryStore {
  /** All entries, in no order. */
  load(): Promise<readonly HistoryEntry[]>;
  save(entry: HistoryEntry): Promise<void>;
  remove(ids: readonly string[]): Promise<void>;
}

/** How much is kept. */
export interface HistoryBounds {
  readonly maxEntries: number;
  /** Of all images together, those to start from included. */
  readonly maxBytes: number;
}

/** The images of this browser, newest first. */
export interface History {
  readonly entries: ReadonlySignal<readonly HistoryEntry[]>;
  /** Adds one, and lets the oldest go that are over the bounds. */
  add(entry: HistoryEntry): Promise<void>;
  clear(): Promise<void>;
}

/** What a history needs. */
export interface HistoryOptions {
  /** A store that fails, such as that of a private window, costs what is kept only: the page goes on without it. */
  readonly store: HistoryStore;
  /** @default 48 entries, 64 MiB */
  readonly bounds?: HistoryBounds;
}

const defaultBounds: HistoryBounds = { maxEntries: 48, maxBytes: 64 * 1024 * 1024 };

/** Opens the history with what the store has. */
export async function openHistory({ store, bounds = defaultBounds }: HistoryOptions): Promise<History> {
  const loaded = await store.load().catch((): readonly HistoryEntry[] => []);
  const entries = createSignal(withinBounds(loaded.map(withAllFields), bounds));
  const remove = (gone: readonly HistoryEntry[]) =>
    gone.length === 0 ? undefined : store.remove(gone.map(({ id }) => id)).catch(() => {});
  return {
    entries,
    async add(entry) {
      const all = [entry, ...entries.value];
      entries.value = withinBounds(all, bounds);
      await store.save(entry).catch(() => {});
      await remove(all.filter((each) => !entries.value.includes(each)));
    },
    async clear() {
      const gone = entries.value;
      entries.value = [];
      await remove(gone);
    },
  };
}

/** An entry of an older version of the page lacks the fields that the form has since. */
function withAllFields(entry: HistoryEntry): HistoryEntry {
  return { ...entry, form: { ...emptyForm, ...entry.form } };
}

/** The newest entries that fit, newest first; the newest one always. */
function withinBounds(
  entries: readonly HistoryEntry[],
  { maxEntries, maxBytes }: HistoryBounds,
): readonly HistoryEntry[] {
  let bytes = 0;
  return [...entries]
    .sort((a, b) => b.generatedAtMs - a.generatedAtMs)
    .filter(({ image, thumbnail, start }, index) => {
      bytes += image.size + thumbnail.size + (start?.image.size ?? 0);
      return index === 0 || (index < maxEntries && bytes <= maxBytes);
    });
}

/** The bytes of a base64 `data:` URI with their media type; undefined for any other URL. */
export function bytesOfDataUri(
  url: string,
): { readonly bytes: Uint8Array<ArrayBuffer>; readonly contentType: string } | undefined {
  const [, contentType, base64] = /^data:([\w.+-]+\/[\w.+-]+);base64,(.*)$/s.exec(url) ?? [];
  if (contentType === undefined || base64 === undefined) {
    return undefined;
  }
  return { bytes: Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)), contentType };
}
