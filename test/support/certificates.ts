// The certificate library's dependency injection wants it, and before all else.
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { renameSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";

/** A certificate and its key, PEM. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

/** Contents of a certificate. */
export interface CertificateRequest {
  /** Common name. @default localhost */
  readonly name?: string;
  /** Alternative names. @default `localhost` and 127.0.0.1 */
  readonly alternatives?: readonly { readonly type: "dns" | "ip" | "url"; readonly value: string }[];
  /** Hours from now until it begins to hold. @default -1 */
  readonly fromHours?: number;
  /** Hours from now until it ends. @default 24 */
  readonly untilHours?: number;
}

/** A certificate authority of one test. */
export interface Authority {
  /** Its own certificate, PEM. */
  readonly cert: string;
  issue(request?: CertificateRequest): Promise<Issued>;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const localhost = [
  { type: "dns", value: "localhost" },
  { type: "ip", value: "127.0.0.1" },
] as const;

/** Makes an authority. */
export async function createAuthority(name = "test authority"): Promise<Authority> {
  const keys = await newKeys();
  const own = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: hoursFromNow(-48),
    notAfter: hoursFromNow(48),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  return {
    cert: own.toString("pem"),
    async issue({ name: commonName = "localhost", alternatives = localhost, fromHours = -1, untilHours = 24 } = {}) {
      const holder = await newKeys();
      const certificate = await x509.X509CertificateGenerator.create({
        subject: `CN=${commonName}`,
        issuer: own.subject,
        publicKey: holder.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        notBefore: hoursFromNow(fromHours),
        notAfter: hoursFromNow(untilHours),
        extensions: [
          new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]),
          new x509.SubjectAlternativeNameExtension([...alternatives]),
        ],
      });
      const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", holder.privateKey)).toString("base64");
      const lines = pkcs8.match(/.{1,64}/g)?.join("\n");
      const key = `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`;
      return { cert: certificate.toString("pem"), key };
    },
  };
}

/**
 * Puts a certificate and its key into a folder, each whole or not at all, and gives their paths. Both at once, so that who looks at them
 * finds half of a pair once at most, however slow the machine is.
 */
export async function writeCertificate(folder: string, name: string, { cert, key }: Issued) {
  const files = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
  await writeFile(`${files.cert}.new`, cert, { mode: 0o600 });
  await writeFile(`${files.key}.new`, key, { mode: 0o600 });
  for (const file of Object.values(files)) {
    renameSync(`${file}.new`, file);
  }
  return files;
}

/** Writes a file under another name and renames it, as a deployment does. */
export async function replaceFile(path: string, text: string): Promise<string> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
  return path;
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}

function hoursFromNow(hours: number): Date {
  return new Date(Date.now() + hours * 3_600_000);
}
