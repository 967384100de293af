import type { SecureContextOptions } from "node:tls";

/**
 * TLS versions and ciphers of servers and of the command line's calls.
 *
 * TLS 1.3, and TLS 1.2 with the suites that HTTP/2 allows (RFC 9113 §9.2.2): forward secrecy and authenticated encryption. Calls between apps
 * use Node's minimum version, also TLS 1.2, and grpc-js's ciphers: grpc-js has no option for channels with reloaded certificates.
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
