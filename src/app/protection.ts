import type { Logger } from "pino";
import { healthServiceName } from "../connect-health/health.js";
import { reflectionServiceNames } from "../connect-health/reflection.js";
import { type AccessControl, createAccessControl } from "../mesh/access/access-control.js";
import { type CallerDirectory, certificateHolders } from "../mesh/access/caller-directory.js";
import { checkExposure } from "../mesh/port/listen-exposure.js";
import type { OnTlsRejected, ServerTls } from "../mesh/port/tls-acceptor.js";
import type { Reloaded } from "../mesh/tls/reloaded-files.js";
import { createAccessLog } from "./access-log.js";

/** TLS, authentication and reflection settings of a server. */
export interface Protection {
  /** @default cleartext */
  readonly tls?: ServerTls | undefined;
  /** Allowed callers and their limits. @default holders of a client certificate if `tls` requires one; otherwise anyone */
  readonly callers?: Reloaded<CallerDirectory> | undefined;
  /** Allows an unauthenticated server to listen beyond loopback. @default false */
  readonly open?: boolean | undefined;
  /** Access to reflection: anyone, allowed callers, or disabled. @default "callers" */
  readonly reflection?: "open" | "callers" | "off" | undefined;
}

/** Bind address and access control of a server. */
export interface Guard {
  /** Address to bind. */
  readonly address: string;
  readonly accessControl: AccessControl;
  /** Logs a client whose TLS handshake was rejected. */
  readonly onTlsRejected: OnTlsRejected;
  /** Writes the last lines of the log of rejected access. Call it when the server has stopped. */
  close(): void;
}

/** Options of {@link createGuard}. */
export interface GuardOptions extends Protection {
  readonly host: string;
  /** App id that every caller must be allowed to use. If absent, the app checks each call. */
  readonly appId?: string | undefined;
  readonly logger: Pick<Logger, "info" | "warn">;
}

/**
 * Checks the listening address and creates the access control of a server.
 *
 * Logs a warning if the server is unauthenticated, and each rejected access. Health checks need no authentication.
 *
 * @throws OpenServerError for an unauthenticated server beyond loopback without `open`; the system's error for an unknown host.
 */
export async function createGuard(options: GuardOptions): Promise<Guard> {
  const { host, tls, open = false, reflection = "callers", appId, logger } = options;
  const callers =
    options.callers ?? (tls?.clientCertificate === "required" ? unchanging(certificateHolders) : undefined);
  const { address, isOpen } = await checkExposure({
    host,
    authenticatesCallers: callers !== undefined,
    allowOpen: open,
  });
  if (isOpen) {
    logger.warn({ host }, "INSECURE: every client that reaches this machine may call this server");
  }
  if (callers !== undefined && tls === undefined) {
    logger.warn(
      { host },
      "callers' keys are sent in cleartext: configure TLS, or put a TLS proxy in front of this server",
    );
  }
  const openReflection = reflection === "open" ? reflectionServiceNames : [];
  const { onRejected, close } = createAccessLog({ logger });
  const openServices = [healthServiceName, ...openReflection];
  return {
    address,
    accessControl: createAccessControl({ callers, appId, openServices, onRejected }),
    onTlsRejected: ({ address: peer, problem }) => onRejected({ reason: "client_certificate", peer, problem }),
    close,
  };
}

function unchanging<Value>(current: Value): Reloaded<Value> {
  return { current, onChange() {}, close() {} };
}
