import { rootCertificates } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import type { Reloaded } from "./reloaded-files.js";
import type { TlsMaterial } from "./tls-material.js";

/**
 * Create channel credentials that verify the server against `ca`, or Node's root certificates without one, and present our certificate if
 * there is one. New connections use the current files; open ones are kept.
 */
export function createTlsChannelCredentials(material: Reloaded<TlsMaterial>): grpc.ChannelCredentials {
  const authorities = createListeners(
    material,
    ({ ca }): grpc.experimental.CaCertificateUpdate => ({
      caCertificate: ca ?? Buffer.from(rootCertificates.join("\n")),
    }),
  );
  const identities = createListeners(material, ({ cert, key }): grpc.experimental.IdentityCertificateUpdate | null =>
    cert === undefined || key === undefined ? null : { certificate: cert, privateKey: key },
  );
  const provider: grpc.experimental.CertificateProvider = {
    addCaCertificateListener: authorities.add,
    removeCaCertificateListener: authorities.remove,
    addIdentityCertificateListener: identities.add,
    removeIdentityCertificateListener: identities.remove,
  };
  const hasIdentity = material.current.cert !== undefined;
  return grpc.experimental.createCertificateProviderChannelCredentials(provider, hasIdentity ? provider : null);
}

/** Listeners that get an update at once and with each change of the material. */
function createListeners<Update>(material: Reloaded<TlsMaterial>, updateOf: (material: TlsMaterial) => Update) {
  const listeners = new Set<(update: Update) => void>();
  material.onChange((changed) => {
    for (const listener of listeners) {
      listener(updateOf(changed));
    }
  });
  return {
    add(listener: (update: Update) => void) {
      listeners.add(listener);
      listener(updateOf(material.current));
    },
    remove: (listener: (update: Update) => void) => void listeners.delete(listener),
  };
}
