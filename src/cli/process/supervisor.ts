import { once } from "node:events";
import { z } from "zod";
import type { Environment } from "../../trace/telemetry/environment.js";

/** What a supervised service shall do. It comes after the start of the process, which needs its time to load meanwhile. */
export interface ServiceOrders {
  /** Flags of the service's command. */
  readonly flags: readonly string[];
  /** Variables, added to the process's own. */
  readonly environment: Environment;
}

/** What a supervised service tells the process that started it, once. */
export type ServiceReport =
  | { readonly kind: "ready" /** Base URL, such as `http://127.0.0.1:50052`. */; readonly url: string }
  | { readonly kind: "failed" /** One line for the user. */; readonly message: string };

/** Checks a report at the receiving end. */
export const serviceReport: z.ZodType<ServiceReport> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("ready"), url: z.string() }),
  z.object({ kind: z.literal("failed"), message: z.string() }),
]);

const serviceOrders: z.ZodType<ServiceOrders> = z.object({
  flags: z.array(z.string()),
  environment: z.record(z.string(), z.string()),
});

/** The process that started this one and watches over it. */
export interface Supervisor {
  /** Resolves when the orders have come. */
  orders(): Promise<ServiceOrders>;
  /** Resolves when the report has left, or when there is nobody left to read it. */
  report(report: ServiceReport): Promise<void>;
}

/** Variable by which a supervised process knows that it is one: others may have an IPC channel too. */
export const supervisedVariable = "THROUGHLINE_SUPERVISED";

/** The supervisor at the other end of this process's IPC channel; undefined where no supervisor started it. */
export function connectSupervisor(ipc: NodeJS.Process, environment: Environment): Supervisor | undefined {
  if (environment[supervisedVariable] !== "1" || ipc.send === undefined) {
    return undefined;
  }
  return {
    async orders() {
      const [message]: unknown[] = await once(ipc, "message");
      return serviceOrders.parse(message);
    },
    report: (report) => new Promise((resolve) => ipc.send?.(report, undefined, undefined, () => resolve())),
  };
}
