import { OpenServerError } from "../../mesh/port/listen-exposure.js";
import type { CommandContext } from "../command-context.js";
import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { rejectWhenAborted, whenAborted } from "./when-aborted.js";

/** A service that runs. */
export interface RunningService {
  /** Base URL, such as `http://127.0.0.1:50052`. */
  readonly url: string;
  /** Lets running calls finish, within the grace, and frees everything. */
  stop(): Promise<void>;
}

/** How a service is started, and what it says then. */
export interface ServiceOptions {
  /** What becomes ready: an app id, or a plain name. */
  readonly name: string;
  /** Starts it. Rejects, with nothing left running, when it cannot. */
  readonly start: () => Promise<RunningService>;
  /** The last thing to do, also after a failed start: the last spans leave here. */
  readonly finish?: () => Promise<void>;
}

/**
 * Runs a service until SIGTERM or SIGINT: says when it is ready, drains at the signal, and resolves with exit code 0.
 *
 * @throws CommandError when it cannot start, or when it was ended before it was ready.
 */
export async function runService(options: ServiceOptions, context: CommandContext): Promise<number> {
  const { interrupt, stdout, supervisor } = context;
  interrupt.throwIfAborted();
  try {
    const service = await startService(options, interrupt);
    stdout.write(`${options.name} is ready at ${service.url}\n`);
    await supervisor?.report({ kind: "ready", url: service.url });
    await whenAborted(interrupt);
    await service.stop();
  } finally {
    await options.finish?.();
  }
  return exitCodes.done;
}

async function startService({ name, start }: ServiceOptions, interrupt: AbortSignal): Promise<RunningService> {
  try {
    // Where the signal comes first, what still starts is left alone: the process ends.
    return await Promise.race([start(), rejectWhenAborted(interrupt)]);
  } catch (error) {
    throw describeStartFailure(name, error);
  }
}

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
