import type { CommandContext } from "../command-context.js";
import { exitCodes } from "../exit-codes.js";
import { describeStartFailure } from "./start-failure.js";
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
