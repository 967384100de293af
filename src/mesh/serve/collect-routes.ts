import type { DescMethod } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  createConnectRouter,
  createServiceImplSpec,
  type MethodImplSpec,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";

/** Implementation of a unary method. */
export type UnarySpec = Extract<MethodImplSpec, { readonly kind: "unary" }>;

/** Registered routes, by path. */
export interface CollectedRoutes {
  readonly handlers: ReadonlyMap<string, UniversalHandler>;
  readonly unary: ReadonlyMap<string, UnarySpec>;
}

/** Maximum request message of methods that take more or less than the others, in bytes. */
export type MethodLimits = ReadonlyMap<DescMethod, number>;

/**
 * Register the routes with Connect's router, and collect the unary implementations by path.
 *
 * @param methodLimits replace `readMaxBytes` of the options. Connect has one limit for a router, so each limit gets a router of its own.
 */
export function collectRoutes(
  routes: (router: ConnectRouter) => void,
  options: Parameters<typeof createConnectRouter>[0],
  methodLimits: MethodLimits = new Map(),
): CollectedRoutes {
  const { handlers, unary } = collect(routes, options);
  for (const readMaxBytes of new Set(methodLimits.values())) {
    for (const [path, handler] of collect(routes, { ...options, readMaxBytes }).handlers) {
      if (methodLimits.get(handler.method) === readMaxBytes) {
        handlers.set(path, handler);
      }
    }
  }
  return { handlers, unary };
}

function collect(routes: (router: ConnectRouter) => void, options: Parameters<typeof createConnectRouter>[0]) {
  const router = createConnectRouter(options);
  const unary = new Map<string, UnarySpec>();
  const collecting: ConnectRouter = {
    handlers: router.handlers,
    service(service, implementation, own) {
      router.service(service, implementation, own);
      // Services with their own options are served by Connect only.
      for (const spec of own === undefined
        ? Object.values(createServiceImplSpec(service, implementation).methods)
        : []) {
        if (spec.kind === "unary") {
          unary.set(`/${service.typeName}/${spec.method.name}`, spec);
        }
      }
      return this;
    },
    rpc(method, implementation, own) {
      router.rpc(method, implementation, own);
      return this;
    },
  };
  routes(collecting);
  return { handlers: new Map(router.handlers.map((handler) => [handler.requestPath, handler])), unary };
}
