import { OpenServerError } from "../../mesh/port/listen-exposure.js";
import { CommandError } from "../command-error.js";

/** Words for the system's errors that a server meets when it opens its port. */
const portFailures = new Map([
  ["EADDRINUSE", "is in use"],
  ["EACCES", "may not be opened by this user"],
  ["EADDRNOTAVAIL", "is not an address of this machine"],
  ["ENOTFOUND", "is not a host name that can be found"],
  ["EAI_AGAIN", "is not a host name that can be found now"],
]);

/** One line about why a service did not start. An error that says so itself is passed through. */
export function describeStartFailure(name: string, error: unknown): CommandError {
  if (error instanceof CommandError) {
    return error;
  }
  if (error instanceof OpenServerError) {
    return new CommandError(
      `${name} cannot start: on ${error.host} anybody who reaches this machine could call it. Say who may with --callers, or take ` +
        "clients' certificates with --tls-client-ca, or allow it with --insecure-open",
      { cause: error },
    );
  }
  const message = error instanceof Error ? error.message : String(error);
  const words = error instanceof Error && "code" in error ? portFailures.get(String(error.code)) : undefined;
  if (error instanceof Error && words !== undefined) {
    return new CommandError(`${name} cannot start: ${placeOf(error)} ${words}`, { cause: error });
  }
  return new CommandError(`${name} cannot start: ${message.split("\n", 1)[0]}`, { cause: error });
}

/** What a system error is about: `127.0.0.1:50052`, or a host name. */
function placeOf(error: Error): string {
  const read = (key: string): string | undefined => {
    const value: unknown = Reflect.get(error, key);
    return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
  };
  const address = read("address") ?? read("hostname") ?? "the address";
  const port = read("port");
  return port === undefined ? address : `${address}:${port}`;
}
