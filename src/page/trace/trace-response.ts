/**
 * The trace id of a `traceresponse` header, such as `00-4e59a70947e16460dd0641a9b92f3047-00f067aa0ba902b7-01`; undefined where there is none
 * to read. {@link https://w3c.github.io/trace-context/#traceresponse-header}
 */
export function traceIdOf(header: string | null): string | undefined {
  const id = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(header ?? "")?.[1];
  return id === undefined || /^0+$/.test(id) ? undefined : id;
}
