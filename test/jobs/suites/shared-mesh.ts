import { after, before, beforeEach, describe } from "node:test";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import type { ManagedEngine } from "../../../src/worker/worker-app.js";
import { createSwitchEngine, type JobMesh, startJobMesh } from "../../support/job-mesh.js";
import { startWebhookReceiver, type WebhookReceiver, webhookSecret } from "./webhook-receiver.js";

/** A mesh that several suites use one after the other. Each test begins without jobs, and with an engine that is free. */
export interface SharedMesh {
  readonly mesh: JobMesh;
  readonly receiver: WebhookReceiver;
  /** Another host that gets webhooks. */
  readonly secondReceiver: WebhookReceiver;
  /** Has the worker run another engine. */
  readonly use: <Next extends ManagedEngine>(next: Next) => Next;
}

/** Waiting jobs that the shared mesh takes. */
export const sharedLimit = 4;

/** Runs suites with one mesh. Its members are there once the tests run. */
export function withSharedMesh(
  describeAll: (shared: SharedMesh) => void,
  /** Where its jobs rest. @default a new PGlite in memory */
  createSource?: () => Promise<string>,
): void {
  describe("jobs", () => {
    const { engine, use } = createSwitchEngine();
    let started: Omit<SharedMesh, "use"> | undefined;
    const get = () => {
      if (started === undefined) {
        throw new Error("the shared mesh is there in tests only");
      }
      return started;
    };
    before(async () => {
      const receiver = await startWebhookReceiver();
      const secondReceiver = await startWebhookReceiver();
      const hosts = [receiver, secondReceiver].map(({ url }) => new URL(url).host);
      const policy = { hosts, allowsLoopback: true };
      const webhooks = { policy, secret: webhookSecret };
      const limits = { all: sharedLimit, perOwner: sharedLimit };
      const source = createSource && { source: await createSource() };
      started = {
        receiver,
        secondReceiver,
        mesh: await startJobMesh({ engines: [engine], webhooks, limits, ...source }),
      };
    });
    beforeEach(async () => {
      use(createFakeEngine());
      const { jobs } = get().mesh;
      for (const { id } of (await jobs.listJobs({})).jobs) {
        await jobs.deleteJob({ id });
      }
    });
    after(async () => {
      await started?.mesh.stop();
      await started?.receiver.close();
      await started?.secondReceiver.close();
    });
    describeAll({
      use,
      get mesh() {
        return get().mesh;
      },
      get receiver() {
        return get().receiver;
      },
      get secondReceiver() {
        return get().secondReceiver;
      },
    });
  });
}
