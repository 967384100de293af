import { randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CliError, messageOf } from "../errors.js";

/** PEM files of a certificate and its key. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** Names that the certificate holds for. `queue.` is the prefix that fal's older clients put before their host. */
const names = [
  ...["localhost", "queue.localhost"].map((value) => ({ type: "dns", value }) as const),
  ...["127.0.0.1", "::1"].map((value) => ({ type: "ip", value }) as const),
];
const validDays = 365;
/** A certificate that ends sooner is made anew, in milliseconds. */
const renewMs = 30 * 86_400_000;
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const serverAuth = "1.3.6.1.5.5.7.3.1";

/**
 * Return a certificate for localhost, made in this folder unless it has one that still holds.
 *
 * It is no authority: who trusts it trusts the server with its key, and nothing else.
 *
 * @throws CliError if the folder cannot be written.
 */
export async function localCertificate(folder: string): Promise<CertificateFiles> {
  const files = { cert: join(folder, "localhost.crt"), key: join(folder, "localhost.key") };
  if (await isUsable(files)) {
    return files;
  }
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    // So that no repository takes the key in.
    await writeFile(join(folder, ".gitignore"), "*\n");
    const { cert, key } = await selfSigned();
    await writeFile(files.key, key, { mode: 0o600 });
    await writeFile(files.cert, cert);
    return files;
  } catch (error) {
    throw new CliError(`cannot write a certificate into ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

async function isUsable({ cert, key }: CertificateFiles): Promise<boolean> {
  try {
    const certificate = new X509Certificate(await readFile(cert));
    await readFile(key);
    return Date.parse(certificate.validTo) - Date.now() > renewMs;
  } catch {
    return false;
  }
}

/** Loaded here, because no other command needs the library. */
async function selfSigned(): Promise<{ readonly cert: string; readonly key: string }> {
  // The library's dependency injection wants it, and before all else.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
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
