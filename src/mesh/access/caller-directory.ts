import { createKeyRing } from "./caller-keys.js";

/** A caller that is known, and what it may do. */
export interface CallerEntry {
  readonly name: string;
  /** Whether the caller may use an app. */
  mayUse(appId: string): boolean;
  /** A pipeline, which says for whom it calls and is believed. @default false */
  readonly mayNameCallers?: boolean | undefined;
  /** Absent: as many requests as it likes. */
  readonly rate?:
    | {
        readonly perSecond: number;
        readonly burst: number;
        /** As the file has it: `60 requests a minute`. */
        readonly words: string;
      }
    | undefined;
  /** Calls that may run at once. Absent: as many as it likes. */
  readonly maxConcurrent?: number | undefined;
}

/** What a caller shows of itself. */
export interface Credentials {
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
  /** See `Peer.certificateNames`. */
  readonly certificateNames: readonly string[];
}

/** Knows callers by what they show. */
export interface CallerDirectory {
  /** The caller; undefined where it is not known. A key that is given counts, and a wrong one is not healed by a certificate. */
  find(credentials: Credentials): CallerEntry | undefined;
}

/** What makes a caller known. */
export interface CallerIdentity extends CallerEntry {
  /** Hashes of its keys, as `hashCallerKey` writes them. */
  readonly keys: readonly string[];
  /** Names in its certificates, such as `uri:spiffe://mesh/worker` or `cn:worker`. */
  readonly certificates: readonly string[];
}

/** Makes a directory of callers. */
export function createCallerDirectory(callers: readonly CallerIdentity[]): CallerDirectory {
  const ring = createKeyRing(callers.flatMap((caller) => caller.keys.map((hash) => [hash, caller] as const)));
  const byName = new Map(callers.flatMap((caller) => caller.certificates.map((name) => [name, caller] as const)));
  return {
    find({ authorization, certificateNames }) {
      if (authorization !== undefined) {
        const key = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
        return key === undefined ? undefined : ring.find(key);
      }
      const name = certificateNames.find((each) => byName.has(each));
      return name === undefined ? undefined : byName.get(name);
    },
  };
}

/** Every client that has a certificate of the server's authorities: known by the certificate's first name, without limits. */
export const certificateHolders: CallerDirectory = {
  find({ certificateNames: [name] }) {
    return name === undefined ? undefined : { name, mayUse: () => true };
  },
};
