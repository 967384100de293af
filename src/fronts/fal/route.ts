import type { NodeRequest } from "../../mesh/port/node-handler.js";
import { FalError } from "./errors.js";

/** What a request asks for. */
export type FalRoute =
  /** Submit to the queue, run to the end, or run with progress. */
  | { readonly kind: "submit" | "run" | "stream"; readonly app: string }
  /** A request that was submitted. */
  | { readonly kind: "status" | "status-stream" | "result" | "cancel"; readonly app: string; readonly id: string };

/** Options of {@link readRoute}. */
export interface RouteOptions {
  /** Host, with its port, at which a bare path runs instead of submitting. @default none */
  readonly runHost?: string | undefined;
}

/** Prefix of the paths that are always fal's. */
const prefix = "/fal/";
const proxyPath = "/fal/proxy";
/** Paths of the queue and of the run host on a port that has one name. */
export const queuePrefix = "/fal/queue";
export const runPrefix = "/fal/run";

/** App id, and what follows it. */
const appPath = /^\/([A-Za-z0-9][A-Za-z0-9._-]*)\/([A-Za-z0-9][A-Za-z0-9._-]*)(\/.*)?$/;
const requestPath = /^\/requests\/([^/]+)(?:\/(status|status\/stream|cancel))?$/;
/** First segments of other paths of a pipeline. */
const otherPaths = new Set(["fal", "images", "v1", "traces", "apps"]);
/** First segment of an RPC's path: `package.Service`. */
const serviceName = /\.[A-Z][A-Za-z0-9]*$/;
const rpcContentType = /^application\/(grpc|connect\+|proto)/i;

/**
 * Whether a request is fal's: under `/fal/`, or a bare path with an app id. RPC paths and content types never are, so that clients of an
 * RPC that does not exist get the answer of their protocol.
 */
export function isFalPath(path: string, { method, headers }: Pick<NodeRequest, "method" | "headers">): boolean {
  if (path.startsWith(prefix)) {
    return true;
  }
  const [, owner = "", , rest = ""] = appPath.exec(path) ?? [];
  if (owner === "" || otherPaths.has(owner) || serviceName.test(owner)) {
    return false;
  }
  if (rpcContentType.test(headers["content-type"] ?? "") || headers["connect-protocol-version"] !== undefined) {
    return false;
  }
  return method === "POST" || requestPath.test(rest);
}

/** Where a request goes, once its prefix or proxy header is resolved. */
interface Target {
  readonly runs: boolean;
  /** Path after the prefix. */
  readonly path: string;
  readonly query: URLSearchParams;
}

/** A resolved request. */
export interface ResolvedRoute {
  readonly route: FalRoute;
  readonly query: URLSearchParams;
  /** Prefix of the URLs in the answer. */
  readonly prefix: string;
}

/**
 * Read what a request asks for.
 *
 * @param path as it was sent, which {@link isFalPath} has selected: a URL would resolve `..` in it, so that the two could disagree.
 * @param url of the request, for its host and query.
 * @throws FalError 404 for an unknown path, 405 for a wrong method, 422 for a wrong `x-fal-target-url`.
 */
export function readRoute(
  { method, path }: { readonly method: string; readonly path: string },
  url: URL,
  header: Headers,
  options: RouteOptions,
): ResolvedRoute {
  const { runs, path: appPart, query } = targetOf(path, url, header, options);
  const [, owner, name, rest = ""] = appPath.exec(appPart) ?? [];
  if (owner === undefined || name === undefined) {
    throw pathNotFound();
  }
  const app = `${owner}/${name}`;
  const ofPrefix = { query, prefix: path.startsWith(`${queuePrefix}/`) ? queuePrefix : "" };
  const [, id, action] = requestPath.exec(rest) ?? [];
  if (id !== undefined) {
    checkMethod(method, action === "cancel" ? "PUT" : "GET");
    const kind = action === "status/stream" ? "status-stream" : action === "status" ? "status" : (action ?? "result");
    return { ...ofPrefix, route: { kind: kind === "cancel" ? kind : requestKind(kind), app, id } };
  }
  checkMethod(method, "POST");
  if (rest === "" || rest === "/") {
    return { ...ofPrefix, route: { kind: runs ? "run" : "submit", app } };
  }
  if (rest === "/stream" && runs) {
    return { ...ofPrefix, route: { kind: "stream", app } };
  }
  throw pathNotFound();
}

function requestKind(kind: string): "status" | "status-stream" | "result" {
  return kind === "status" || kind === "status-stream" ? kind : "result";
}

function targetOf(pathname: string, url: URL, header: Headers, { runHost }: RouteOptions): Target {
  const { searchParams: query, host } = url;
  if (pathname === proxyPath) {
    return proxiedTarget(header.get("x-fal-target-url") ?? "");
  }
  for (const [start, runs] of [
    [queuePrefix, false],
    [runPrefix, true],
  ] as const) {
    if (pathname.startsWith(`${start}/`)) {
      return { runs, path: pathname.slice(start.length), query };
    }
  }
  if (pathname.startsWith(prefix)) {
    throw pathNotFound();
  }
  return { runs: host === runHost, path: pathname, query };
}

/** The target of fal's proxy protocol. Only its path and the kind of its host are used: nothing is fetched. */
function proxiedTarget(text: string): Target {
  if (!URL.canParse(text)) {
    const msg = "must be the URL that fal's client would have called; set proxyUrl of the client to this path";
    throw new FalError(422, [{ loc: ["header", "x-fal-target-url"], msg, type: "value_error" }]);
  }
  const { hostname, pathname, searchParams } = new URL(text);
  if (hostname.startsWith("rest.")) {
    throw new FalError(404, "uploads and tokens are not served here: send an image as a data: URI", "not_found");
  }
  return { runs: !hostname.startsWith("queue."), path: pathname, query: searchParams };
}

function checkMethod(method: string, allowed: string): void {
  if (method !== allowed) {
    throw new FalError(405, `use ${allowed} for this path`, "bad_request", { allow: allowed });
  }
}

function pathNotFound(): FalError {
  return new FalError(
    404,
    "no such path: POST /{owner}/{app} submits, /fal/run/{owner}/{app} runs, and …/requests/{id} has /status and /cancel",
    "not_found",
  );
}
