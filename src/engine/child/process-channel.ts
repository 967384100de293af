import { startHeartbeat } from "./heartbeat.js";
import { isHostMessage } from "./messages.js";
import type { HostChannel } from "./serve-engine.js";

/**
 * The channel to the process that forked this one, with this one's heartbeat beside it. Its end is this process's end too, at once and in the middle of whatever
 * runs, so that no engine outlives its host.
 */
export function createProcessChannel(): HostChannel {
  const die = () => process.kill(process.pid, "SIGKILL");
  process.on("disconnect", die);
  if (!process.connected) {
    die();
  }
  startHeartbeat();
  return {
    send(message) {
      // A failure means that the host is gone, and then `disconnect` follows.
      process.send?.(message, undefined, undefined, () => {});
    },
    onMessage(listener) {
      process.on("message", (message) => {
        if (isHostMessage(message)) {
          listener(message);
        }
      });
    },
  };
}
