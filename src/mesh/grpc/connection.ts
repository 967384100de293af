import type { Transport } from "@connectrpc/connect";
import type { WorkerStatus } from "./worker-status.js";

/** A way to reach an app, or one worker of it. */
export interface Connection {
  readonly transport: Transport;
  /**
   * Says how the app's workers are, once they have spoken or had a moment to. Absent: nothing is known of them.
   *
   * @param service full name of the service whose health counts.
   */
  readonly workers?: ((service: string) => Promise<readonly WorkerStatus[]>) | undefined;
  /** Closes the connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}
