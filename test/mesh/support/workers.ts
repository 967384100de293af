import type { TestContext } from "node:test";
import { createClient, createContextValues } from "@connectrpc/connect";
import { createHealth, type Health, ServingStatus } from "../../../src/connect-health/health.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { attemptListener, type CallAttempt } from "../../../src/mesh/balance/attempt.js";
import { connectApp } from "../../../src/mesh/balance/connect-app.js";
import { type PoliciesInput, readPolicies } from "../../../src/mesh/grpc/policies.js";
import type { Listening } from "../../../src/mesh/port/listen.js";
import { type Behaviour, echoRoutes } from "./echo-services.js";
import { serveEcho } from "./serve-echo.js";

/** A worker that counts its calls and has a health service. */
export interface TestWorker extends Listening {
  readonly health: Health;
  readonly calls: number;
  behaviour: Behaviour;
}

/** Serves a worker on a free port, until the test ends. */
export async function serveWorker(
  t: Pick<TestContext, "after">,
  behaviour: Behaviour = () => {},
  port = 0,
): Promise<TestWorker> {
  const health = createHealth({ services: [TextToImageWorkerService.typeName] });
  health.setAll(ServingStatus.SERVING);
  const counted = { calls: 0, behaviour };
  const run: Behaviour = (prompt, context) => {
    counted.calls++;
    return counted.behaviour(prompt, context);
  };
  const listening = await serveEcho(t, {
    port,
    routes(router) {
      echoRoutes(run)(router);
      health.routes(router);
    },
  });
  t.after(() => health.close());
  return Object.assign(counted, listening, { health });
}

/** Pauses that do not hold a test up. */
export const quick: PoliciesInput = {
  retry: { initialBackoffMs: 1, maxBackoffMs: 5 },
  reconnect: { initialBackoffMs: 20, maxBackoffMs: 100 },
};

/** The target of some ports of the loopback. */
export const targetOf = (...workers: readonly { readonly port: number }[]): string =>
  `ipv4:${workers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;

/** A balanced client of a target, closed when the test ends, and the attempts of its calls. */
export function connectTo(t: Pick<TestContext, "after">, target: string, policies: PoliciesInput = quick) {
  const connection = connectApp({ appId: "test/worker", target, policies: readPolicies(policies) });
  t.after(() => connection.close());
  const attempts: CallAttempt[] = [];
  const observed = () => ({
    contextValues: createContextValues().set(attemptListener, (attempt) => void attempts.push(attempt)),
  });
  return { client: createClient(TextToImageWorkerService, connection.transport), attempts, observed, connection };
}
