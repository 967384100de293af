import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";

/** Fingerprints of the same bytes under each key, the one to be stored first. */
export type Fingerprints = readonly [Uint8Array, ...Uint8Array[]];

/** Seals what jobs store of their callers: prompts, results, webhooks. */
export interface PayloadCipher {
  /** Whether sealed bytes are unreadable without a key. */
  readonly encrypts: boolean;
  /** @param place where the bytes are stored, such as `<job id> work`. Bytes of one place cannot be opened at another. */
  seal(plain: Uint8Array, place: string): Uint8Array;
  /** Whether a key fits. @param head the first {@link sealedHeadBytes} of sealed bytes. */
  fits(head: Uint8Array): boolean;
  /** @throws PayloadError if no key fits, or the bytes were changed. */
  open(sealed: Uint8Array, place: string): Uint8Array;
  /** By which the same bytes are known again. Keyed, because a plain hash tells who guesses a prompt that the guess is right. */
  fingerprints(plain: Uint8Array): Fingerprints;
}

/** Stored bytes cannot be read: no key fits, or they were changed. */
export class PayloadError extends Error {
  override readonly name = "PayloadError";
}

const keyMissing =
  "stored jobs are encrypted with a key that is not in --jobs-key-file: add it, after the one for new jobs";

/** @throws PayloadError if a head is of a key that is not there. */
export function checkKeys(cipher: PayloadCipher, heads: readonly Uint8Array[]): void {
  if (!heads.every((head) => cipher.fits(head))) {
    throw new PayloadError(keyMissing);
  }
}

/** First byte of sealed bytes. */
const plaintext = 0;
const aes256Gcm = 1;
const keyIdBytes = 8;
const nonceBytes = 12;
const tagBytes = 16;
const headBytes = 1 + keyIdBytes + nonceBytes;

/** Bytes at the start of a payload that name its key. */
export const sealedHeadBytes = 1 + keyIdBytes;

/**
 * Creates the cipher: AES-256-GCM with a random nonce for each payload. The first key seals; all keys open, so that keys can be replaced.
 *
 * Layout: a byte for the method, 8 bytes of the key's SHA-256, 12 bytes of nonce, the ciphertext, 16 bytes of tag.
 *
 * @param keys of 32 bytes each. Empty: payloads are stored as they are.
 */
export function createPayloadCipher(keys: readonly Uint8Array[]): PayloadCipher {
  const byId = new Map(keys.map((key) => [keyIdOf(key), key]));
  const [first] = keys;
  const keyOf = (sealed: Uint8Array) => byId.get(Buffer.from(sealed.subarray(1, sealedHeadBytes)).toString("hex"));
  return {
    encrypts: first !== undefined,
    seal(plain, place) {
      if (first === undefined) {
        return Buffer.concat([Buffer.of(plaintext), plain]);
      }
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv("aes-256-gcm", first, nonce).setAAD(Buffer.from(place));
      const body = Buffer.concat([cipher.update(plain), cipher.final()]);
      return Buffer.concat([
        Buffer.of(aes256Gcm),
        Buffer.from(keyIdOf(first), "hex"),
        nonce,
        body,
        cipher.getAuthTag(),
      ]);
    },
    fingerprints(plain) {
      const unkeyed = createHash("sha256").update(plain).digest();
      const [stored, ...older] = keys.map((key) => createHmac("sha256", key).update(plain).digest());
      return stored === undefined ? [unkeyed] : [stored, ...older, unkeyed];
    },
    fits: (head) => head[0] === plaintext || keyOf(head) !== undefined,
    open(sealed, place) {
      if (sealed[0] === plaintext) {
        return sealed.subarray(1);
      }
      const key = keyOf(sealed);
      if (sealed[0] !== aes256Gcm || key === undefined || sealed.length < headBytes + tagBytes) {
        throw new PayloadError(keyMissing);
      }
      const nonce = sealed.subarray(1 + keyIdBytes, headBytes);
      const decipher = createDecipheriv("aes-256-gcm", key, nonce)
        .setAAD(Buffer.from(place))
        .setAuthTag(sealed.subarray(sealed.length - tagBytes));
      try {
        return Buffer.concat([decipher.update(sealed.subarray(headBytes, sealed.length - tagBytes)), decipher.final()]);
      } catch (error) {
        throw new PayloadError("a stored job was changed, or belongs to another row", { cause: error });
      }
    },
  };
}

function keyIdOf(key: Uint8Array): string {
  return createHash("sha256")
    .update(key)
    .digest("hex")
    .slice(0, 2 * keyIdBytes);
}
