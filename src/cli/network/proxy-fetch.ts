import type { SendRequest } from "../../hub/hub-fetch.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { usageError } from "../command-error.js";
import { httpUrl } from "../settings/setting-schemas.js";

/** Variables that name a proxy, the one that counts first. */
const proxyVariables = {
  http: ["http_proxy", "HTTP_PROXY"],
  https: ["https_proxy", "HTTPS_PROXY"],
} as const;

/**
 * What sends requests the proxies that the environment names, as curl does; undefined where it names none. Node's own `fetch` goes through none
 * before version 24, and there only where it is told to. What `no_proxy` lists and loopback are reached directly.
 *
 * @throws CommandError (bad usage) that names the variable that holds no URL of a proxy.
 */
export async function createProxyFetch(environment: Environment): Promise<SendRequest | undefined> {
  const httpProxy = readProxy(environment, proxyVariables.http);
  const httpsProxy = readProxy(environment, proxyVariables.https);
  if (httpProxy === undefined && httpsProxy === undefined) {
    return undefined;
  }
  // Loaded here, because few machines have a proxy.
  const undici = await import("undici");
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
  if (value !== undefined && !httpUrl.safeParse(value).success) {
    throw usageError(`${name} must be the http:// or https:// URL of a proxy`);
  }
  return value;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(?:\.\d+){3}$/.test(host);
}
