/**
 * What never goes through a proxy, in the words of all who read the variable: grpc-js takes suffixes and CIDR blocks, others host names, and
 * IPv6 addresses in brackets.
 */
const loopback = ["localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]"];

/**
 * Adds loopback to `no_proxy`, and to `no_grpc_proxy` where it is set, of this process and of those that it starts: grpc-js reads them for
 * each channel, and sends calls to this very machine through `http_proxy` otherwise. `NO_PROXY`, which `no_proxy` hides, is taken over.
 */
export function exemptLoopbackFromProxies(environment: NodeJS.ProcessEnv): void {
  const { no_proxy: lower, NO_PROXY: upper, no_grpc_proxy: ofGrpc } = environment;
  environment["no_proxy"] = withLoopback(lower || upper);
  if (ofGrpc) {
    environment["no_grpc_proxy"] = withLoopback(ofGrpc);
  }
}

function withLoopback(list: string | undefined): string {
  const entries = (list ?? "").split(/[,\s]+/).filter((entry) => entry !== "");
  return [...new Set([...entries, ...loopback])].join(",");
}
