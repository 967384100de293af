import type { Logger } from "pino";
import { healthServiceName } from "../connect-health/health.js";
import { reflectionServiceNames } from "../connect-health/reflection.js";
import { type AccessControl, createAccessControl } from "../mesh/access/access-control.js";
import { type CallerDirectory, certificateHolders } from "../mesh/access/caller-directory.js";
import { checkExposure } from "../mesh/port/listen-exposure.js";
import type { ServerTls } from "../mesh/port/tls-acceptor.js";
import type { Reloaded } from "../mesh/tls/reloaded-files.js";

/** How a server protects itself. */
export interface Protection {
  /** @default cleartext */
  readonly tls?: ServerTls | undefined;
  /** Who may call, and how much. @default whoever has a client certificate, where `tls` requires one; else anybody */
  readonly callers?: Reloaded<CallerDirectory> | undefined;
  /** Allows a server that anybody may call to listen beyond loopback. @default false */
  readonly open?: boolean | undefined;
  /** Whom reflection tells of the services: anybody, those who may call, or nobody. @default "callers" */
  readonly reflection?: "open" | "callers" | "off" | undefined;
}

/** What a server's protection comes to. */
export interface Guard {
  /** Address to bind. */
  readonly address: string;
  readonly accessControl: AccessControl;
}

/** Options of {@link createGuard}. */
export interface GuardOptions extends Protection {
  readonly host: string;
  /** App id that a caller must be allowed to use. Absent: apps are checked further in. */
  readonly appId?: string | undefined;
  readonly logger: Pick<Logger, "warn">;
}

/**
 * Checks that a server with this protection may listen on the host, says it in the log where anybody may call, and makes the server's
 * accessControl. Health checks are open to anybody.
 *
 * @throws OpenServerError; the system's error where the host cannot be found.
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
      "callers' keys travel in cleartext; without TLS here, something in front has to encrypt them",
    );
  }
  const openReflection = reflection === "open" ? reflectionServiceNames : [];
  return {
    address,
    accessControl: createAccessControl({ callers, appId, openServices: [healthServiceName, ...openReflection] }),
  };
}

function unchanging<Value>(current: Value): Reloaded<Value> {
  return { current, onChange() {}, close() {} };
}
