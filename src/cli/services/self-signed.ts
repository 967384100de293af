// The certificate library's dependency injection wants it, and before all else.
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

/** Names that the certificate holds for. `queue.` is the prefix that fal's older clients put before their host. */
const names = [
  ...["localhost", "queue.localhost"].map((value) => ({ type: "dns", value }) as const),
  ...["127.0.0.1", "::1"].map((value) => ({ type: "ip", value }) as const),
];
const validDays = 365;
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const serverAuth = "1.3.6.1.5.5.7.3.1";

/** Make a certificate for localhost and its key, PEM. It is no authority. */
export async function createSelfSigned(): Promise<{ readonly cert: string; readonly key: string }> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: `00${randomBytes(15).toString("hex")}`,
    name: "CN=localhost, O=throughline dev",
    keys,
    signingAlgorithm: algorithm,
    // Clocks of containers and their hosts differ.
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + validDays * 86_400_000),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([serverAuth]),
      new x509.SubjectAlternativeNameExtension(names),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  const lines = pkcs8.match(/.{1,64}/g)?.join("\n");
  return {
    cert: `${certificate.toString("pem")}\n`,
    key: `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`,
  };
}
