import type { Interceptor } from "@connectrpc/connect";
import { type Reloaded, type ReloadOptions, reloadFiles } from "../tls/reloaded-files.js";

/** Read a caller's key from its file and reload it on changes. @throws Error that names the file. */
export function reloadCallerKey(file: string, options: ReloadOptions): Reloaded<string> {
  return reloadFiles({
    files: [file],
    make([contents]) {
      const key = String(contents).trim();
      if (!/^[\x21-\x7e]{1,4096}$/.test(key)) {
        throw new Error(`${file} contains no key: it must be one line without spaces`);
      }
      return key;
    },
    ...options,
  });
}

/** Create a client interceptor that sends the current key as `authorization: Bearer`. */
export function createCallerKeyInterceptor(key: Reloaded<string>): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${key.current}`);
    return next(request);
  };
}
