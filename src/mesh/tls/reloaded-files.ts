import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** What is made of some files, and made anew when they change. */
export interface Reloaded<Value> {
  /** Made of what the files held when they were last right. */
  readonly current: Value;
  /** Calls back with each new value. */
  onChange(listener: (value: Value) => void): void;
  /** Looks no more. */
  close(): void;
}

/** How files are watched over. */
export interface ReloadOptions {
  /** Told once of each change that is wrong. The old value stays. */
  readonly onRejected: (error: unknown) => void;
  /** Time between two looks at the files, in milliseconds. @default 5,000 */
  readonly intervalMs?: number | undefined;
}

/** Options of {@link reloadFiles}. */
export interface ReloadFilesOptions<Value> extends ReloadOptions {
  readonly files: readonly string[];
  /** Makes the value of the files' contents, in their order. Throws an Error that says what is wrong with them. */
  readonly make: (contents: readonly Buffer[]) => Value;
}

/**
 * Reads files, and looks at them again and again: their contents and not their dates, so that it does not matter how they are replaced
 * (written over, renamed, or behind a link as Kubernetes does it).
 *
 * A change counts when the files are right together; files that belong together are replaced one after the other, so what is wrong is
 * told only when the next look finds it unchanged. Looking keeps no process alive.
 *
 * @throws Error that names the file that cannot be read, or what `make` throws.
 */
export function reloadFiles<Value>(options: ReloadFilesOptions<Value>): Reloaded<Value> {
  const { files, make, onRejected, intervalMs = 5_000 } = options;
  const contents = files.map((file) => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw unreadable(file, error);
    }
  });
  const listeners = new Set<(value: Value) => void>();
  let current = make(contents);
  /** Of the contents behind `current`. */
  let used = fingerprint(contents);
  /** Of contents that were wrong at the last look. */
  let suspected = "";
  let told = "";
  let isLooking = false;

  async function look(): Promise<void> {
    let found = "";
    try {
      const read = await Promise.all(
        files.map((file) => readFile(file).catch((error: unknown) => Promise.reject(unreadable(file, error)))),
      );
      found = fingerprint(read);
      if (found === used) {
        return;
      }
      current = make(read);
      used = found;
      suspected = "";
      told = "";
    } catch (error) {
      found ||= String(error);
      if (found === suspected && found !== told) {
        told = found;
        onRejected(error);
      }
      suspected = found;
      return;
    }
    for (const listener of listeners) {
      listener(current);
    }
  }

  const timer = setInterval(() => {
    if (!isLooking) {
      isLooking = true;
      void look().finally(() => {
        isLooking = false;
      });
    }
  }, intervalMs);
  timer.unref();

  return {
    get current() {
      return current;
    },
    onChange: (listener) => void listeners.add(listener),
    close: () => clearInterval(timer),
  };
}

function unreadable(file: string, error: unknown): Error {
  const code = error instanceof Error && "code" in error ? ` (${error.code})` : "";
  return new Error(`${file} cannot be read${code}`, { cause: error });
}

function fingerprint(contents: readonly Buffer[]): string {
  return contents.map((each) => createHash("sha256").update(each).digest("base64")).join();
}
