import type { SecureContextOptions } from "node:tls";

/**
 * Versions and ciphers of the servers' ports and of the command line's calls: TLS 1.3, and for older peers TLS 1.2 with forward secrecy and authenticated
 * encryption, which are the suites that HTTP/2 allows (RFC 9113 §9.2.2). Calls between apps have Node's own least version, which is TLS 1.2
 * too, and grpc-js's ciphers: it makes the context of a channel whose certificates can change itself, and takes neither.
 */
export const tlsPolicy: SecureContextOptions = {
  minVersion: "TLSv1.2",
  ciphers: [
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
  ].join(":"),
  honorCipherOrder: true,
};
