/** What a painting without news is watched with. */
export interface StallWatchOptions {
  /** Milliseconds that a picture of up to 1024² may go without an event. */
  readonly stallMs: number;
  /** Called once, with the reason in words. */
  readonly onStall: (reason: string) => void;
}

/** Notices a run that never returns. A heart beats on during one, so only the lack of news can tell. */
export interface StallWatch {
  /** A painting is asked for, and its first event expected. */
  begin(): void;
  /** It has brought an event; its size, where the event says it. */
  event(size?: { readonly width: number; readonly height: number }): void;
  /** Nothing is expected any more. */
  end(): void;
}

const largestUsual = 1024 ** 2;
/** Times the longest that this engine has ever taken from one event to the next. */
const patience = 10;

/**
 * Counts an engine as stalled when the time since the last event is more than `stallMs` and more than ten times the longest that it took
 * between two events before. Both grow with the square of the area for pictures beyond 1024², as attention does.
 */
export function createStallWatch({ stallMs, onStall }: StallWatchOptions): StallWatch {
  let timer: NodeJS.Timeout | undefined;
  let lastAt = 0;
  /** Longest time between two events, brought down to 1024². */
  let longestMs = 0;
  /** Until a painting says its size it may wait for the one before to let go, so that one's counts. */
  let growth = 1;

  const expect = (): void => {
    clearTimeout(timer);
    lastAt = performance.now();
    const boundMs = Math.max(stallMs, patience * longestMs) * growth;
    // A timer takes no more than 31 bits.
    timer = setTimeout(() => onStall(`no progress for ${Math.round(boundMs)} ms`), Math.min(boundMs, 2 ** 31 - 1));
    timer.unref();
  };

  return {
    begin: expect,
    event(size) {
      if (size === undefined) {
        longestMs = Math.max(longestMs, (performance.now() - lastAt) / growth);
      } else {
        growth = Math.max(1, (size.width * size.height) / largestUsual) ** 2;
      }
      expect();
    },
    end: () => clearTimeout(timer),
  };
}
