import { create } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import * as grpc from "@grpc/grpc-js";
import type { Logger } from "pino";
import { RegisterRequestSchema } from "../gen/throughline/v1/registry_pb.js";
import { unavailable } from "../mesh/errors/errors.js";
import { type GrpcAddress, watchAddresses } from "../mesh/grpc/grpc-addresses.js";
import { createConnections } from "../mesh/grpc/grpc-connections.js";
import { readPolicies } from "../mesh/grpc/policies.js";
import type { Reloaded } from "../mesh/tls/reloaded-files.js";
import { addressHeader } from "./registered-host.js";
import { keepRegistered, type Registration, type RegistrationOptions } from "./registration.js";

/** Options of {@link createRegistrar}. */
export interface RegistrarOptions {
  /** Base URLs of the pipelines, each with one or more addresses: `http://pipelines.internal:8080`. */
  readonly pipelines: readonly string[];
  readonly appId: string;
  /** TCP port of the worker. */
  readonly port: number;
  readonly version: string;
  /** IP address of the worker if it is not that of its connections, such as behind a proxy. @default that of each connection */
  readonly address?: string | undefined;
  /** TLS to `https://` pipelines. @default Node's root certificates, no client certificate */
  readonly credentials?: grpc.ChannelCredentials | undefined;
  /** Our caller's key. @default none */
  readonly key?: Pick<Reloaded<string>, "current"> | undefined;
  /** Interval of the resolutions of the pipelines' names, in milliseconds. @default 30,000 */
  readonly resolveEveryMs?: number | undefined;
  readonly backoff?: RegistrationOptions["backoff"];
  readonly logger: Pick<Logger, "info" | "warn" | "debug">;
}

/** Keeps a worker registered at all its pipelines. */
export interface Registrar {
  /** Ends the leases: the pipelines send no more calls. Resolves within a second. */
  end(): Promise<void>;
}

/** Reconnects are quicker than a pipeline's to its workers: without the registration, the pipeline cannot reach this worker. Pings find lost pipelines. */
const policies = readPolicies({ reconnect: { initialBackoffMs: 200, maxBackoffMs: 2_000 } });

/** Register a worker at all addresses of its pipelines, and keep it registered until the end. */
export function createRegistrar(options: RegistrarOptions): Registrar {
  const registered = options.pipelines.map((url) => registerAt(url, options));
  return {
    async end() {
      await Promise.all(registered.map((each) => each.end()));
    },
  };
}

interface AddressRegistration {
  readonly address: GrpcAddress;
  readonly registration: Registration;
  state: "trying" | "registered" | "failed";
}

/** Register at all addresses of one URL. */
function registerAt(url: string, options: RegistrarOptions): Registrar {
  const { logger, resolveEveryMs = 30_000 } = options;
  const { appId, port, version } = options;
  const request = create(RegisterRequestSchema, { appId, port, version });
  const target = targetOf(url);
  const registrations = new Map<string, AddressRegistration>();
  let found: readonly GrpcAddress[] = [];
  let lastFailure: string | undefined;

  const metadata = (): grpc.Metadata => {
    const fields = new grpc.Metadata();
    if (options.key !== undefined) {
      fields.set("authorization", `Bearer ${options.key.current}`);
    }
    if (options.address !== undefined) {
      fields.set(addressHeader, options.address);
    }
    return fields;
  };

  /** Logs a failure unless it is the last one again: not each attempt. */
  const report = (error: ConnectError, address: string | undefined, wasRegistered: boolean): void => {
    const failure = `${error.code} ${error.rawMessage}`;
    if (failure === lastFailure && !wasRegistered) {
      return;
    }
    lastFailure = failure;
    const fields = { pipeline: url, address, reason: describeFailure(error) };
    const message = wasRegistered
      ? "the registration at a pipeline is lost: registering again"
      : "cannot register at a pipeline: trying again until it succeeds";
    logger.warn(fields, message);
  };

  const open = (address: GrpcAddress): void => {
    const entry: AddressRegistration = {
      address,
      state: "trying",
      registration: keepRegistered({
        connections: createConnections({
          target: address.target,
          policies,
          credentials: url.startsWith("https:") ? (options.credentials ?? grpc.credentials.createSsl()) : undefined,
          grpcOptions: address.grpcOptions,
        }),
        request,
        metadata,
        backoff: options.backoff,
        onRegistered() {
          if (entry.state !== "registered") {
            entry.state = "registered";
            lastFailure = undefined;
            logger.info({ pipeline: url, address: address.name }, "registered at a pipeline");
            choose();
          }
        },
        onFailed(error) {
          const wasRegistered = entry.state === "registered";
          entry.state = "failed";
          report(error, address.name, wasRegistered);
          addresses.refresh();
          choose();
        },
      }),
    };
    registrations.set(address.name, entry);
  };

  const close = (entry: AddressRegistration): Promise<void> => {
    registrations.delete(entry.address.name);
    return entry.registration.end();
  };

  /**
   * Registers at the addresses of one family. A name with both has each pipeline twice, and would list the worker twice there. IPv4 comes
   * first; where it fails, both are tried until one of them succeeds.
   */
  const choose = (): void => {
    const families = [found.filter((each) => !isIpv6(each)), found.filter(isIpv6)].filter((each) => each.length > 0);
    const isState = (state: AddressRegistration["state"]) => (each: GrpcAddress) =>
      registrations.get(each.name)?.state === state;
    const registered = families.find((family) => family.some(isState("registered")));
    const [first = []] = families;
    const wanted = registered ?? (first.length > 0 && first.every(isState("failed")) ? found : undefined) ?? first;
    const names = new Set(wanted.map(({ name }) => name));
    const isTryingBoth = registered === undefined;
    for (const entry of registrations.values()) {
      const isGone = !found.some(({ name }) => name === entry.address.name);
      if (!names.has(entry.address.name) && (isGone || !isTryingBoth)) {
        void close(entry);
      }
    }
    for (const address of wanted) {
      if (!registrations.has(address.name)) {
        open(address);
      }
    }
  };

  const addresses = watchAddresses(
    { target, everyMs: resolveEveryMs },
    {
      onAddresses(current) {
        // A name without addresses is a failure of its DNS rather than the end of all pipelines.
        if (current.length > 0) {
          found = current;
          choose();
        }
      },
      onFailure() {
        if (found.length === 0) {
          report(unavailable("the host name of the URL cannot be resolved"), undefined, false);
        }
      },
    },
  );
  return {
    async end() {
      addresses.stop();
      await Promise.all([...registrations.values()].map(close));
    },
  };
}

function targetOf(url: string): string {
  const { protocol, hostname, port } = new URL(url);
  return `dns:///${hostname}:${port === "" ? (protocol === "https:" ? 443 : 80) : port}`;
}

function isIpv6({ name }: GrpcAddress): boolean {
  return name.startsWith("[");
}

const advice: Partial<Record<Code, string>> = {
  [Code.Unauthenticated]: "send a key of the pipeline's callers file, or a client certificate",
  [Code.Unimplemented]: "this server has no registry: it is no pipeline, an older one, or its registry is off",
};

/** Code, message and what to do, on one line. The cause of an unreachable server is this machine's own. */
function describeFailure(error: ConnectError): string {
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  const remedy = advice[error.code];
  return `${codeToString(error.code)}: ${error.rawMessage}${cause}${remedy === undefined ? "" : `; ${remedy}`}`
    .replaceAll(/\s+/g, " ")
    .slice(0, maxReasonLength);
}

/** Maximum length of a reason in the log, in characters. */
const maxReasonLength = 1_000;
