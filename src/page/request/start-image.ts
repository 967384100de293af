import { signal as createSignal, type ReadonlySignal } from "@preact/signals";
import type { GenerateRequest } from "../../contracts/contracts.js";
import { readImageSettings } from "../../image/image-settings.js";

/** Pixels. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/** An image to start from, as it is sent. */
export interface StartImage extends ImageSize {
  /** Name of its file. */
  readonly name: string;
  /** PNG, JPEG or WebP within the contract's limits. */
  readonly image: Blob;
  /** Size of the file's image if it was scaled down. */
  readonly original: ImageSize | undefined;
}

/** Makes a file one that can be sent. @throws Error with a message for the user. */
export type PrepareImage = (file: Blob) => Promise<Omit<StartImage, "name">>;

/** Where the choice of an image is. */
export type StartState =
  | { readonly kind: "none" }
  | { readonly kind: "reading"; readonly name: string }
  | {
      readonly kind: "ready";
      readonly start: StartImage;
      /** What the image was generated from, if its file contains it. */
      readonly settings?: GenerateRequest | undefined;
    }
  | { readonly kind: "failed"; readonly message: string };

/** The image that the next requests start from. */
export interface StartChoice {
  readonly state: ReadonlySignal<StartState>;
  /** Resolves when no file is being read. */
  settled(): Promise<void>;
  /** Reads a file; a newer choice wins over one that is still read. */
  read(file: Blob, name: string): Promise<void>;
  /** Takes an image that was sent before; undefined for none. */
  set(start: StartImage | undefined): void;
  /** Says why a file is not taken. */
  reject(message: string): void;
}

/** Creates the choice, with no image. */
export function createStartChoice(prepare: PrepareImage): StartChoice {
  const state = createSignal<StartState>({ kind: "none" });
  let reads: Promise<unknown> = Promise.resolve();
  return {
    state,
    settled: async () => void (await reads),
    async read(file, name) {
      const reading: StartState = { kind: "reading", name };
      state.value = reading;
      const prepared = Promise.all([prepare(file), settingsIn(file)]).then(
        ([start, settings]): StartState => ({ kind: "ready", start: { ...start, name }, settings }),
        (error: unknown): StartState => ({
          kind: "failed",
          message: `${name} ${error instanceof Error ? error.message : "cannot be read."}`,
        }),
      );
      const read = prepared.then((settled) => {
        if (state.value === reading) {
          state.value = settled;
        }
      });
      reads = Promise.all([reads, read]);
      await read;
    },
    set(start) {
      state.value = start === undefined ? { kind: "none" } : { kind: "ready", start };
    },
    reject(message) {
      state.value = { kind: "failed", message };
    },
  };
}

/** Where settings stand in a PNG file: before its pixels. */
const maxSettingsBytes = 256 * 1024;

/** What the image in a file was generated from; undefined if the file does not contain it. */
export async function settingsIn(file: Blob): Promise<GenerateRequest | undefined> {
  const head = await file.slice(0, maxSettingsBytes).arrayBuffer();
  return readImageSettings(new Uint8Array(head));
}
