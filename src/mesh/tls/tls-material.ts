import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import * as tls from "node:tls";
import { type Reloaded, type ReloadOptions, reloadFiles } from "./reloaded-files.js";
import { tlsPolicy } from "./tls-policy.js";

/** PEM files of one side of TLS. Servers need certificate and key; for clients they are optional. */
export interface TlsFiles {
  /** Our certificate, followed by the intermediate ones. */
  readonly cert?: string | undefined;
  /** The certificate's private key, without a passphrase. */
  readonly key?: string | undefined;
  /** Certificates of the authorities that verify the other side. */
  readonly ca?: string | undefined;
}

/** Contents of {@link TlsFiles}. */
export interface TlsMaterial {
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly ca: Buffer | undefined;
}

/**
 * Read and validate the files of one side, and reload them on changes.
 *
 * @throws Error that names the file and the problem (unreadable, no certificate, key mismatch, expired), without quoting the file.
 */
export function reloadTlsMaterial(files: TlsFiles, options: ReloadOptions): Reloaded<TlsMaterial> {
  if ((files.cert === undefined) !== (files.key === undefined)) {
    throw new Error("a certificate needs its private key and vice versa; one of the two files is missing");
  }
  const named = (["cert", "key", "ca"] as const).flatMap((name) => {
    const file = files[name];
    return file === undefined ? [] : [{ name, file }];
  });
  return reloadFiles({
    files: named.map(({ file }) => file),
    make(contents) {
      const of = (name: keyof TlsFiles) => contents[named.findIndex((each) => each.name === name)];
      const material = { cert: of("cert"), key: of("key"), ca: of("ca") };
      checkTlsMaterial(material, files, Date.now());
      return material;
    },
    ...options,
  });
}

function checkTlsMaterial({ cert, key, ca }: TlsMaterial, files: TlsFiles, nowMs: number): void {
  if (ca !== undefined) {
    const authorities = certificatesOf(ca, files.ca ?? "");
    // A bundle may include expired ones.
    if (authorities.every((authority) => validity(authority, nowMs) !== undefined)) {
      throw new Error(`${files.ca} contains no currently valid certificate of an authority`);
    }
  }
  if (cert !== undefined && key !== undefined) {
    const [own] = certificatesOf(cert, files.cert ?? "");
    const problem = validity(own, nowMs);
    if (problem !== undefined) {
      throw new Error(`the certificate in ${files.cert} ${problem}`);
    }
    if (!own?.checkPrivateKey(privateKeyOf(key, files.key ?? ""))) {
      throw new Error(`the private key in ${files.key} does not belong to the certificate in ${files.cert}`);
    }
  }
  try {
    tls.createSecureContext({ ...tlsPolicy, ...material({ cert, key, ca }) });
  } catch (error) {
    // Other checks of OpenSSL, such as the minimum key length.
    const reason = error instanceof Error && "reason" in error ? String(error.reason) : "rejected by OpenSSL";
    throw new Error(`${Object.values(files).join(", ")} cannot be used for TLS: ${reason}`, { cause: error });
  }
}

/** Convert the material to options of Node's TLS functions. */
export function material({ cert, key, ca }: TlsMaterial): tls.SecureContextOptions {
  return { ...(cert && { cert }), ...(key && { key }), ...(ca && { ca }) };
}

function certificatesOf(pem: Buffer, file: string): X509Certificate[] {
  const blocks = pem.toString("latin1").match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    throw new Error(`${file} contains no PEM certificate`);
  }
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw new Error(`certificate ${index + 1} in ${file} is malformed`, { cause: error });
    }
  });
}

function privateKeyOf(pem: Buffer, file: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new Error(`${file} contains no PEM private key, or only one with a passphrase`, { cause: error });
  }
}

/** Reason why a certificate is not valid now; undefined if it is. */
function validity(certificate: X509Certificate | undefined, nowMs: number): string | undefined {
  if (certificate !== undefined && Date.parse(certificate.validTo) < nowMs) {
    return `expired on ${certificate.validTo}`;
  }
  if (certificate !== undefined && Date.parse(certificate.validFrom) > nowMs) {
    return `is not valid before ${certificate.validFrom}`;
  }
  return undefined;
}
