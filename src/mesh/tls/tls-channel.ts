import { rootCertificates } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import type { Reloaded } from "./reloaded-files.js";
import type { TlsMaterial } from "./tls-material.js";

/**
 * Credentials of a TLS channel: the server's certificate is checked against the authorities of the material, or against Node's own where
 * it has none, and ours is shown where it has one. New connections use what is current; open ones stay.
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

/** Tells listeners what the material comes to, at once and whenever it changes. */
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
