import { contentTypeOf } from "./encode-image.js";
import type { ImageStore } from "./image-store.js";

/** Path under which a store's images are served. */
const imagePath = "/images/";

/** Where an image of a store is found below a server's base URL. */
export function imageUrl(baseUrl: string, fileName: string): string {
  return `${baseUrl.replace(/\/+$/, "")}${imagePath}${fileName}`;
}

/** What the route reads of a request of node:http or node:http2. */
export interface ImageRouteRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
}

/** What the route needs of a response of node:http or node:http2. */
export interface ImageRouteResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: Uint8Array): unknown;
}

/**
 * Serves `GET` and `HEAD` of `/images/<file name>` from a store and answers 404 for everything else below that path. Nothing but
 * images leaves here: the type is ours, sniffing is off, and scripts would run in no page.
 *
 * Returns false when the path is not below `/images/`, so that another route may take it.
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
          // The name is made from the content, so what is behind it never changes.
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
