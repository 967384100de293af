import { createKeyRing } from "./caller-keys.js";

/** A known caller with its permissions and limits. */
export interface CallerEntry {
  readonly name: string;
  /** Whether the caller may use an app. */
  mayUse(appId: string): boolean;
  /** Whether the caller, a worker, may register as a replica of an app. @default no app */
  mayRegister?(appId: string): boolean;
  /** Whether `throughline-caller` headers of this caller, a pipeline, are trusted. @default false */
  readonly mayNameCallers?: boolean | undefined;
  /** Rate limit. Absent: no limit. */
  readonly rate?:
    | {
        readonly perSecond: number;
        readonly burst: number;
        /** As configured: `60 requests a minute`. */
        readonly label: string;
      }
    | undefined;
  /** Maximum concurrent calls. Absent: no limit. */
  readonly maxConcurrent?: number | undefined;
}

/** Credentials of a caller. */
export interface Credentials {
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
  /** See `Peer.certificateNames`. */
  readonly certificateNames: readonly string[];
}

/** Lookup of callers by their credentials. */
export interface CallerDirectory {
  /** Finds a caller; undefined if unknown. A key takes precedence: with a wrong key, the certificate is ignored. */
  find(credentials: Credentials): CallerEntry | undefined;
}

/** A caller with the credentials that identify it. */
export interface CallerIdentity extends CallerEntry {
  /** Hashes of its keys, in the form of `hashCallerKey`. */
  readonly keys: readonly string[];
  /** Names in its certificates, such as `uri:spiffe://mesh/worker` or `cn:worker`. */
  readonly certificates: readonly string[];
}

/** `Bearer`, or the scheme of fal's clients. */
const keyHeader = /^(?:Bearer|Key) +(\S+) *$/i;

/** Create a directory of callers. */
export function createCallerDirectory(callers: readonly CallerIdentity[]): CallerDirectory {
  const ring = createKeyRing(callers.flatMap((caller) => caller.keys.map((hash) => [hash, caller] as const)));
  const byName = new Map(callers.flatMap((caller) => caller.certificates.map((name) => [name, caller] as const)));
  return {
    find({ authorization, certificateNames }) {
      if (authorization !== undefined) {
        const key = keyHeader.exec(authorization)?.[1];
        return key === undefined ? undefined : ring.find(key);
      }
      const name = certificateNames.find((each) => byName.has(each));
      return name === undefined ? undefined : byName.get(name);
    },
  };
}

/** Directory of all clients with a valid certificate, identified by its first name, without limits. */
export const certificateHolders: CallerDirectory = {
  find({ certificateNames: [name] }) {
    return name === undefined ? undefined : { name, mayUse: () => true };
  },
};
