import type { SendRequest } from "../../hub/hub-fetch.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { usageError } from "../errors.js";
import { isHttpUrl } from "../options/values.js";

/** Variables that name a proxy, in the order of precedence. */
const proxyVariables = {
  http: ["http_proxy", "HTTP_PROXY"],
  https: ["https_proxy", "HTTPS_PROXY"],
} as const;

/**
 * Create a `fetch` that uses the proxies of the environment, as curl does; undefined without proxies. Node's own `fetch` uses none before
 * version 24, and only on request since. Hosts in `no_proxy` and loopback are reached directly.
 *
 * @throws CliError (bad usage) that names the variable with an invalid proxy URL.
 */
export async function createProxyFetch(environment: Environment): Promise<SendRequest | undefined> {
  const httpProxy = readProxy(environment, proxyVariables.http);
  const httpsProxy = readProxy(environment, proxyVariables.https);
  if (httpProxy === undefined && httpsProxy === undefined) {
    return undefined;
  }
  // Loaded here, because few machines have a proxy.
  const { default: undici } = await import("undici");
  const dispatcher = new undici.EnvHttpProxyAgent({
    httpProxy: httpProxy ?? "",
    httpsProxy: httpsProxy ?? "",
    // As curl has it: a tunnel for https:// alone. Many proxies open none to port 80.
    proxyTunnel: false,
    noProxy: environment["no_proxy"] || environment["NO_PROXY"] || "",
  });
  return (url, { headers, ...request }) =>
    undici.fetch(url, { ...request, headers: [...headers], ...(!isLoopback(url.hostname) && { dispatcher }) });
}

function readProxy(environment: Environment, names: readonly string[]): string | undefined {
  const name = names.find((each) => environment[each]);
  const value = name === undefined ? undefined : environment[name];
  // The value may hold a password: it is not quoted.
  if (value !== undefined && !isHttpUrl(value)) {
    throw usageError(`${name} must be the http:// or https:// URL of a proxy`);
  }
  return value;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(?:\.\d+){3}$/.test(host);
}

/**
 * What never goes through a proxy, in the formats of all readers of the variable: grpc-js takes suffixes and CIDR blocks, others host names, and
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
