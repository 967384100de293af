import type { Transport } from "@connectrpc/connect";

/** A way to reach an app, or one worker of it. */
export interface Connection {
  readonly transport: Transport;
  /** Closes the connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}
