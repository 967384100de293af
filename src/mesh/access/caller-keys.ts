import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** Create a caller's key: 256 random bits, so a fast unsalted hash suffices. The prefix `tl_` is for secret scanners. */
export function createCallerKey(): string {
  return `tl_${randomBytes(32).toString("base64url")}`;
}

/** Hash a key for the callers file: `sha256:` and 64 hexadecimal digits. */
export function hashCallerKey(key: string): string {
  return `sha256:${digest(key).toString("hex")}`;
}

/** Pattern of {@link hashCallerKey}'s result. */
export const callerKeyHash = /^sha256:[0-9a-f]{64}$/;

/** Lookup of owners by their hashed keys. */
export interface KeyRing<Owner> {
  /**
   * Finds a key's owner; undefined for an unknown key. Compares with every hash in constant time, so the duration reveals neither a partial
   * match nor the position.
   */
  find(key: string): Owner | undefined;
}

/** @param hashes of the keys, in the form of {@link hashCallerKey}, with their owners. */
export function createKeyRing<Owner>(hashes: Iterable<readonly [hash: string, owner: Owner]>): KeyRing<Owner> {
  const entries = [...hashes].map(([hash, owner]) => ({
    hash: Buffer.from(hash.slice("sha256:".length), "hex"),
    owner,
  }));
  return {
    find(key) {
      const given = digest(key);
      let found: Owner | undefined;
      for (const { hash, owner } of entries) {
        if (timingSafeEqual(hash, given)) {
          found = owner;
        }
      }
      return found;
    },
  };
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
