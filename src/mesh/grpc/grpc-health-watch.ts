import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, createClient, createContextValues, type Transport } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../gen/grpc/health/v1/health_pb.js";
import { waitForReady } from "./grpc-call.js";

/**
 * What a worker's health service tells, as calls see it:
 * `connecting` until its first word; `serving`; `refusing` while it is reachable and says that it is not ready, as one that drains or whose
 * engine restarts; `down` from the loss of its connection until its next word.
 */
export type WorkerHealth = "connecting" | "serving" | "refusing" | "down";

/** Options of {@link watchHealth}. */
export interface HealthWatchOptions {
  /** A transport to one worker. */
  readonly transport: Transport;
  /** Full name of the service whose health counts. */
  readonly service: string;
  /** Called with each change. */
  readonly onChange: (health: WorkerHealth) => void;
  /** Time for its first word, in milliseconds; then it counts as down, and the watch goes on. */
  readonly firstWordMs: number;
  /** Pauses before the watch is taken up again, in milliseconds: the first one, and the longest. */
  readonly backoff: { readonly initialBackoffMs: number; readonly maxBackoffMs: number };
}

/** A watch on one worker's health. */
export interface HealthWatch {
  /** A call found the worker lost: where it has no health service, this is how the watch learns of it. */
  doubt(): void;
  stop(): void;
}

/**
 * Client-side health checking, which grpc-js does not have: keeps a call of grpc.health.v1.Health/Watch open. The open call also makes
 * keepalive notice a worker that is gone without a word while nothing else runs. A worker without that service counts as serving while
 * it can be reached.
 *
 * @see https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
export function watchHealth({ transport, service, onChange, firstWordMs, backoff }: HealthWatchOptions): HealthWatch {
  const client = createClient(Health, transport);
  const stopped = new AbortController();
  const { signal } = stopped;
  let health: WorkerHealth = "connecting";
  let doubted = () => {};
  let pauseMs = backoff.initialBackoffMs;

  const silence = setTimeout(() => tell("down"), firstWordMs);

  const tell = (next: WorkerHealth): void => {
    if (health !== next && !signal.aborted) {
      clearTimeout(silence);
      health = next;
      onChange(next);
    }
  };

  /** One call of Watch, to its end. */
  async function watch(): Promise<void> {
    try {
      // Once it is known to be down, the call waits for the connection, so that the worker is seen the moment it is back.
      const contextValues = createContextValues().set(waitForReady, health === "down");
      for await (const { status } of client.watch({ service }, { signal, contextValues })) {
        tell(status === ServingStatus.SERVING ? "serving" : "refusing");
        pauseMs = backoff.initialBackoffMs;
      }
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unimplemented) {
        tell("down");
        return;
      }
      const doubt = new Promise<void>((resolve) => {
        doubted = resolve;
      });
      tell("serving");
      await doubt;
      tell("down");
    }
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await watch();
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, backoff.maxBackoffMs);
    }
  }
  void run();

  return {
    doubt: () => doubted(),
    stop() {
      clearTimeout(silence);
      stopped.abort();
      doubted();
    },
  };
}
