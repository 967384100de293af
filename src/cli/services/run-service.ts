import { OpenServerError } from "../../mesh/port/listen-exposure.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf } from "../errors.js";
import { rejectWhenAborted, whenAborted } from "./lifecycle.js";

/** A running service. */
export interface RunningService {
  /** Base URL, such as `http://127.0.0.1:50052`. */
  readonly url: string;
  /** Device that runs the model, such as `cpu`; undefined for a service without a model. */
  readonly device?: string | undefined;
  /** Lets running calls finish within the grace, then shuts down. */
  stop(): Promise<void>;
}

/** Options of {@link runService}. */
export interface ServiceOptions {
  /** Name in the ready line: an app id, or a plain name. */
  readonly name: string;
  /** The flag of its port in `dev`, such as `--worker-port`; `--port` otherwise. For an app of its own: the variable. */
  readonly portSetting: string;
  /** Starts the service. Nothing is left running when it rejects. */
  readonly start: () => Promise<RunningService>;
  /** Runs last, also after a failed start: exports the last spans. */
  readonly finish?: () => Promise<void>;
}

/**
 * Runs a service until a signal: prints a line when it is ready, drains at the signal, and resolves with exit code 0.
 *
 * @throws CliError when it cannot start, or when a signal came before it was ready.
 */
export async function runService(options: ServiceOptions, context: CommandContext): Promise<number> {
  const { interrupt, stdout, supervisor } = context;
  interrupt.throwIfAborted();
  try {
    const service = await startService(options, context);
    stdout.write(`${options.name} is ready at ${service.url}\n`);
    await supervisor?.report({ kind: "ready", url: service.url, device: service.device });
    await whenAborted(interrupt);
    await service.stop();
  } finally {
    await options.finish?.();
  }
  return exitCodes.done;
}

async function startService(
  { name, start, portSetting }: ServiceOptions,
  { interrupt, supervisor }: CommandContext,
): Promise<RunningService> {
  try {
    // If the signal comes first, the start goes on until the process exits.
    return await Promise.race([start(), rejectWhenAborted(interrupt)]);
  } catch (error) {
    const isFlag = portSetting.startsWith("--");
    throw startFailure(name, error, isFlag && supervisor === undefined ? "--port" : portSetting);
  }
}

/** Reasons of the system's errors when a server opens its port, with what to do. */
const portFailures = new Map([
  ["EADDRINUSE", "is in use. Is another `throughline dev` running? PORT takes another port, 0 a free one"],
  ["EACCES", "may not be opened by this user. PORT takes another port: those above 1023 need no privileges"],
  ["EADDRNOTAVAIL", "is not an address of this machine; --host takes one that is, 127.0.0.1 or 0.0.0.0"],
  ["ENOTFOUND", "is not a known host name; --host takes a name or an address of this machine"],
  ["EAI_AGAIN", "cannot be resolved now; --host takes an address too"],
]);

/** One line about why a service did not start. `portSetting` is the flag or the variable of its port. */
export function startFailure(name: string, error: unknown, portSetting = "--port"): CliError {
  if (error instanceof CliError) {
    return error;
  }
  if (error instanceof OpenServerError) {
    return new CliError(
      `${name} cannot start: anonymous clients could call it at ${error.host}. Authenticate them with --callers or ` +
        "--tls-client-ca, or allow them with --insecure-open",
      { cause: error },
    );
  }
  const reason = error instanceof Error && "code" in error ? portFailures.get(String(error.code)) : undefined;
  if (error instanceof Error && reason !== undefined) {
    const message = `${name} cannot start: ${addressOf(error)} ${reason.replace("PORT", portSetting)}`;
    return new CliError(message, { cause: error });
  }
  return new CliError(`${name} cannot start: ${messageOf(error).split("\n", 1)[0]}`, { cause: error });
}

/** The address of a system error: `127.0.0.1:50052`, or a host name. */
function addressOf(error: Error): string {
  const read = (key: string): string | undefined => {
    const value: unknown = Reflect.get(error, key);
    return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
  };
  const address = read("address") ?? read("hostname") ?? "the address";
  const port = read("port");
  return port === undefined ? address : `${address}:${port}`;
}
