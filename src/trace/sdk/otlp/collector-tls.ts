import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContext } from "node:tls";

/** Paths of PEM files. Without authorities, Node's own count. */
export interface CollectorTlsFiles {
  readonly ca?: string;
  readonly key?: string;
  readonly cert?: string;
}

/** What connections to a collector are encrypted with. */
export interface CollectorTls {
  /** Made of the files as they are now, for a new connection. While they are wrong, such as half of a pair, the last that were right count. */
  context(): SecureContext;
}

/**
 * Reads the files of TLS anew for each connection that is made, so that renewed certificates are used from the next one on: a collector
 * that refuses an old one ends the connection, and the try after that shows the new one.
 *
 * @throws Error where they are wrong from the beginning.
 */
export function createCollectorTls(files: CollectorTlsFiles): CollectorTls {
  const read = () =>
    createSecureContext({
      ...(files.ca !== undefined && { ca: readFileSync(files.ca) }),
      ...(files.key !== undefined && { key: readFileSync(files.key) }),
      ...(files.cert !== undefined && { cert: readFileSync(files.cert) }),
    });
  let last = read();
  return {
    context() {
      try {
        last = read();
      } catch {
        // The next connection reads them again.
      }
      return last;
    },
  };
}
