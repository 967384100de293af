import { after } from "node:test";

/** Where something registers its end. */
export interface Hooks {
  after(end: () => void | Promise<void>): void;
}

/**
 * Registers what a suite starts, in its `before` hook too: `after`, called inside of one, would run at the hook's own end.
 */
export function createCleanup(): Hooks {
  const ends: (() => void | Promise<void>)[] = [];
  after(async () => {
    for (const end of ends.reverse()) {
      await end();
    }
  });
  return { after: (end) => void ends.push(end) };
}
