import type { Readable } from "node:stream";

/** What a process's heartbeat is watched for. */
export interface VitalSignsOptions {
  /** One line for each beat: the process's resident memory, in bytes. */
  readonly beats: Readable;
  /** Milliseconds without a beat, after the first word of the process, after which the process counts as hung. */
  readonly silenceMs: number;
  /** Bytes of resident memory above which it must end at once. */
  readonly maxMemoryBytes: number;
  /** Called with the reason in words. */
  readonly onFailure: (reason: string) => void;
}

/** A process's signs of life. */
export interface VitalSigns {
  /** Resident memory when it was last told, in bytes; 0 before. */
  readonly memoryBytes: number;
  /** The process has told its memory in another way. */
  note(memoryBytes: number): void;
  stop(): void;
}

/** In how many looks the silence is noticed. A host that was itself asleep misses one look, and hears the beats before the next. */
const looks = 4;

/** Watches the heartbeat of a process. */
export function watchVitalSigns({ beats, silenceMs, maxMemoryBytes, onFailure }: VitalSignsOptions): VitalSigns {
  let memoryBytes = 0;
  let missed = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    missed++;
    if (missed > looks) {
      clearInterval(timer);
      onFailure(`no sign of life for ${silenceMs} ms`);
    }
  };
  const note = (bytes: number): void => {
    memoryBytes = bytes;
    timer ??= setInterval(look, silenceMs / looks).unref();
    if (memoryBytes > maxMemoryBytes) {
      onFailure(`its memory of ${memoryBytes} bytes is over the hard limit of ${maxMemoryBytes}`);
    }
  };
  beats.on("data", (chunk: Buffer) => {
    missed = 0;
    note(Number(chunk.toString().trim().split("\n").at(-1)));
  });
  beats.on("error", () => {});
  return {
    get memoryBytes() {
      return memoryBytes;
    },
    note,
    stop: () => clearInterval(timer),
  };
}
