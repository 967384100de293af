import {
  type ConnectRouter,
  createConnectRouter,
  createServiceImplSpec,
  type MethodImplSpec,
} from "@connectrpc/connect";

type UnarySpec = Extract<MethodImplSpec, { readonly kind: "unary" }>;

/** Register the routes with Connect's router, and collect the unary implementations by path. */
export function collectRoutes(
  routes: (router: ConnectRouter) => void,
  options: Parameters<typeof createConnectRouter>[0],
) {
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
