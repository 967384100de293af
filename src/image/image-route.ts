import { contentTypeOf } from "./image-format.js";
import type { ImageStore } from "./image-store.js";

/** Path prefix of a store's images. */
const imagePath = "/images/";

/** Return the URL of a store's image below a server's base URL. */
export function imageUrl(baseUrl: string, fileName: string): string {
  return `${baseUrl.replace(/\/+$/, "")}${imagePath}${fileName}`;
}

/** Fields of a node:http or node:http2 request that the route reads. */
export interface ImageRouteRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
}

/** Methods of a node:http or node:http2 response that the route calls. */
export interface ImageRouteResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: Uint8Array): unknown;
}

/**
 * Create the handler of `GET` and `HEAD` `/images/<file name>`; 404 for other paths below it. Returns false for paths outside `/images/`.
 *
 * Responses cannot run scripts: fixed content type, no sniffing, and a sandboxing content security policy.
 */
export function createImageRoute(
  store: ImageStore,
): (request: ImageRouteRequest, response: ImageRouteResponse) => boolean {
  return (request, response) => {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (!path.startsWith(imagePath)) {
      return false;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      answer(response, 405, { allow: "GET, HEAD" });
      return true;
    }
    store.get(path.slice(imagePath.length)).then(
      (image) => {
        if (image === undefined) {
          answer(response, 404);
          return;
        }
        const headers = {
          "content-type": contentTypeOf(image.format),
          "content-length": String(image.bytes.length),
          // Content-addressed, so immutable.
          "cache-control": "public, max-age=31536000, immutable",
          "content-security-policy": "default-src 'none'; sandbox",
        };
        answer(response, 200, headers, request.method === "GET" ? image.bytes : nothing);
      },
      () => answer(response, 500),
    );
    return true;
  };
}

const nothing: Uint8Array = new Uint8Array();

function answer(
  response: ImageRouteResponse,
  status: number,
  headers: Record<string, string> = {},
  body = nothing,
): void {
  response.writeHead(status, { "x-content-type-options": "nosniff", ...headers });
  response.end(body);
}
