import type { Socket } from "node:net";
import type { ListenLimits } from "./listen-limits.js";

/**
 * Make a connection that Node closes after its response read on for a while if the request's body still arrives. Closed with unread bytes, TCP
 * resets the connection, and the client may get EPIPE or ECONNRESET in place of the response.
 *
 * The connection closes when the client closes it, after `lingerMs`, or when more than `lingerBytes` have arrived. The bytes are discarded.
 *
 * @param isArriving whether the connection's last request is incomplete.
 * @see https://www.rfc-editor.org/rfc/rfc9112#section-9.6
 */
export function closeLingering(
  socket: Socket,
  { lingerMs, lingerBytes }: Required<Pick<ListenLimits, "lingerMs" | "lingerBytes">>,
  isArriving: () => boolean,
): void {
  const closeWhenSent = socket.destroySoon.bind(socket);
  // Node calls it after a response with `connection: close`.
  socket.destroySoon = () => {
    if (!isArriving()) {
      closeWhenSent();
      return;
    }
    let bytes = 0;
    // The parser, whose listener it is, would read what follows as another request.
    socket.removeAllListeners("data");
    socket.on("data", (chunk: Uint8Array) => {
      bytes += chunk.byteLength;
      if (bytes > lingerBytes) {
        socket.pause();
        closeWhenSent();
      }
    });
    socket.once("end", closeWhenSent);
    socket.end(() => {
      const timer = setTimeout(closeWhenSent, lingerMs);
      socket.once("close", () => clearTimeout(timer));
    });
    socket.resume();
  };
}
