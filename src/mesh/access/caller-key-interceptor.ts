import type { Interceptor } from "@connectrpc/connect";
import { type Reloaded, type ReloadOptions, reloadFiles } from "../tls/reloaded-files.js";

/** Reads a caller's key from a file that holds nothing else, and anew when it changes. @throws Error that names the file. */
export function reloadCallerKey(file: string, options: ReloadOptions): Reloaded<string> {
  return reloadFiles({
    files: [file],
    make([contents]) {
      const key = String(contents).trim();
      if (!/^[\x21-\x7e]{1,4096}$/.test(key)) {
        throw new Error(`${file} holds no key: one line without spaces`);
      }
      return key;
    },
    ...options,
  });
}

/** Client interceptor that says who calls: `authorization: Bearer` with the key that is current. */
export function createCallerKeyInterceptor(key: Reloaded<string>): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${key.current}`);
    return next(request);
  };
}
