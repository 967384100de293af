import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** Value that is made from files and reloaded on changes. */
export interface Reloaded<Value> {
  /** Value of the last valid contents. */
  readonly current: Value;
  /** Calls back with each new value. */
  onChange(listener: (value: Value) => void): void;
  /** Stops reloading. */
  close(): void;
}

/** Options of a reload. */
export interface ReloadOptions {
  /** Called once for each invalid change. The old value stays in use. */
  readonly onRejected: (error: unknown) => void;
  /** Polling interval, in milliseconds. @default 5,000 */
  readonly intervalMs?: number | undefined;
}

/** Options of {@link reloadFiles}. */
export interface ReloadFilesOptions<Value> extends ReloadOptions {
  readonly files: readonly string[];
  /** Makes the value from the contents, in the order of `files`. @throws Error that names the problem. */
  readonly make: (contents: readonly Buffer[]) => Value;
}

/**
 * Read files and poll them for changes of their contents, not dates, so that every kind of replacement works: overwriting, renaming, or the
 * symbolic links of Kubernetes.
 *
 * Files that belong together are replaced one after the other. An invalid state is therefore reported only if the next poll finds it
 * unchanged. The polling does not keep the process alive.
 *
 * @throws Error that names the unreadable file, or the error of `make`.
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
  /** Fingerprint of `current`. */
  let used = fingerprint(contents);
  /** Fingerprint of invalid contents at the last poll. */
  let suspected = "";
  let reported = "";
  let isPolling = false;

  async function poll(): Promise<void> {
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
      reported = "";
    } catch (error) {
      found ||= String(error);
      if (found === suspected && found !== reported) {
        reported = found;
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
    if (!isPolling) {
      isPolling = true;
      void poll().finally(() => {
        isPolling = false;
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
