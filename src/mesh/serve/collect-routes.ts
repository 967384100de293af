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

/** Register the routes with Connect's router, and collect the unary implementations by path. */
export function collectRoutes(
  routes: (router: ConnectRouter) => void,
  options: Parameters<typeof createConnectRouter>[0],
): CollectedRoutes {
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
