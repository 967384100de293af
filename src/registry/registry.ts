import { setMaxListeners } from "node:events";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import {
  type RegisterRequest,
  type RegisterResponse,
  RegisterResponseSchema,
  RegistryService,
} from "../gen/throughline/v1/registry_pb.js";
import { type Caller, callerOf } from "../mesh/access/callers.js";
import { canceled, createConnectError, deadlineExceeded, invalidField, unavailable } from "../mesh/errors/errors.js";
import { registeredName } from "../mesh/grpc/registered-replicas.js";
import type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";
import type { AddressRanges } from "./address-ranges.js";
import type { HeldLease, Leases } from "./leases.js";
import { readMessages } from "./message-stream.js";
import { addressHeader, registeredHost } from "./registered-host.js";

/** Options of {@link createRegistry}. */
export interface RegistryOptions {
  readonly leases: Leases;
  /** Ranges that anonymous workers register from, and that workers may name. */
  readonly allowed: AddressRanges;
  readonly logger: Pick<Logger, "info">;
}

/** The registry of a pipeline: a service on its port. */
export interface Registry {
  readonly services: readonly [typeof RegistryService];
  readonly routes: (router: ConnectRouter) => void;
  readonly httpRoute: (request: NodeRequest, response: NodeResponse) => boolean;
  /** Ends the streams. The workers then register elsewhere, or here again. */
  end(): void;
  close(): Promise<void>;
}

const messages = {
  registered: "a worker has registered",
  ended: "a worker has ended its registration",
  expired: "the registration of a worker has expired",
} as const;

/** Create the registry of a pipeline over its leases. */
export function createRegistry({ leases, allowed, logger }: RegistryOptions): Registry {
  const ending = new AbortController();
  // Every stream adds a listener.
  setMaxListeners(0, ending.signal);
  const { leaseMs } = leases;
  leases.onLease(({ kind, lease }) => {
    if (kind !== "renewed") {
      const fields = { workerApp: lease.appId, address: registeredName(lease), version: lease.version };
      logger.info(fields, messages[kind]);
    }
  });

  async function* register(
    requests: AsyncIterable<RegisterRequest>,
    call: HandlerContext,
  ): AsyncGenerator<RegisterResponse> {
    const stream = readMessages(requests, [
      [ending.signal, () => unavailable("the pipeline is shutting down")],
      [call.signal, () => canceled(call.signal.reason)],
    ]);
    const onExpired = () => stream.fail(deadlineExceeded(`no renewal arrived within the lease of ${leaseMs / 1000} s`));
    // Before the first message there is no lease that could expire.
    const first = setTimeout(onExpired, leaseMs);
    let renewals = 0;
    let countedFrom = performance.now();
    let held: { readonly lease: HeldLease; readonly request: RegisterRequest } | undefined;
    const hold = (request: RegisterRequest): void => {
      const { appId, port, version } = request;
      if (held !== undefined && (held.request.appId !== appId || held.request.port !== port)) {
        throw invalidField(held.request.appId === appId ? "port" : "app_id", "a renewal must repeat the first message");
      }
      // A call with a stream of requests is admitted when its first message is read.
      const caller = callerOf(call);
      checkMayRegister(caller, appId);
      if (held !== undefined) {
        if (performance.now() - countedFrom >= leaseMs) {
          renewals = 0;
          countedFrom = performance.now();
        }
        if (++renewals > maxRenewals) {
          throw tooManyRenewals(leaseMs);
        }
        held.lease.renew(version);
        return;
      }
      const host = registeredHost({ caller, named: call.requestHeader.get(addressHeader), allowed });
      const lease = leases.register({ appId, host, port, version }, { countKey: caller.countKey, onExpired });
      held = { lease, request };
    };

    try {
      for (let request = await stream.next(); request !== undefined; request = await stream.next()) {
        clearTimeout(first);
        hold(request);
        yield create(RegisterResponseSchema, { lease: durationFromMs(leaseMs) });
      }
      held?.lease.end();
    } catch (error) {
      if (isDenied(error)) {
        callerOf(call).reportRejection?.("registration_not_permitted");
        // Without the permission, the lease must not last.
        held?.lease.end();
      }
      throw error;
    } finally {
      clearTimeout(first);
      stream.close();
      held?.lease.abandon();
    }
  }

  return {
    services: [RegistryService],
    routes: (router) => router.service(RegistryService, { register }),
    httpRoute: () => false,
    end: () => ending.abort(),
    async close() {
      ending.abort();
      leases.close();
    },
  };
}

/** Renewals of a stream within the time of a lease. A worker sends three; more would take processor time from the calls. */
const maxRenewals = 60;

function tooManyRenewals(leaseMs: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message: `more than ${maxRenewals} renewals within ${leaseMs / 1000} s: renew once in a third of the lease`,
  });
}

/** @throws ConnectError PERMISSION_DENIED that names what the operator has to do. */
function checkMayRegister(caller: Caller, appId: string): void {
  if (caller.mayRegister?.(appId) !== true) {
    throw createConnectError({
      code: Code.PermissionDenied,
      message:
        caller.name === undefined
          ? "this worker may not register"
          : `caller ${caller.name} may not register this app: the pipeline's callers file must list the app in its field register`,
    });
  }
}

function isDenied(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === Code.PermissionDenied;
}
