import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** A key for a caller: 256 random bits, so that its hash needs no salt and no slowness. Starts with `tl_`, for scanners of leaked secrets. */
export function createCallerKey(): string {
  return `tl_${randomBytes(32).toString("base64url")}`;
}

/** How a key stands in the file of callers: `sha256:` and 64 hexadecimal digits. */
export function hashCallerKey(key: string): string {
  return `sha256:${digest(key).toString("hex")}`;
}

/** The form of {@link hashCallerKey}. */
export const callerKeyHash = /^sha256:[0-9a-f]{64}$/;

/** Finds whose key was given among hashed ones. */
export interface KeyRing<Owner> {
  /**
   * The key's owner; undefined for a key that is not known. It compares with every hash, each in constant time, so that the time tells
   * neither how much of a key is right nor where it stands.
   */
  find(key: string): Owner | undefined;
}

/** @param hashes of the keys, as {@link hashCallerKey} writes them, with their owners. */
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
