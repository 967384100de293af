/** Turns Headers into the object that Node's servers take. Only `set-cookie` may stand more than once. */
export function nodeHeaders(headers: Headers): Record<string, string | string[]> {
  const cookies = headers.getSetCookie();
  return { ...Object.fromEntries(headers), ...(cookies.length > 0 && { "set-cookie": cookies }) };
}
