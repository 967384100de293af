import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { pino } from "pino";
import type { ServeOptions } from "../../src/app/create-app.js";
import { createPipelineClient } from "../../src/client/client.js";
import {
  RegisterRequestSchema,
  type RegisterResponse,
  RegisterResponseSchema,
} from "../../src/gen/throughline/v1/registry_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { withRegisteredApps } from "../../src/mesh/directory/registered-apps.js";
import { createPipelineApp, pipelineName } from "../../src/pipeline/pipeline-app.js";
import { loopbackRanges } from "../../src/registry/address-ranges.js";
import type { LeaseDatabase } from "../../src/registry/lease-table.js";
import { createLeases, type LeaseChange, type LeasesOptions } from "../../src/registry/leases.js";
import { createRegistry } from "../../src/registry/registry.js";
import { shareLeases } from "../../src/registry/shared-leases.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../../src/worker/worker-app.js";
import { openStockTransport } from "../support/stock-transport.js";
import { type TestEnd, testTelemetry } from "../support/telemetry.js";

const logger = pino({ level: "silent" });

/** Options of {@link startRegistry}. */
export interface StartRegistryOptions extends LeasesOptions {
  readonly allowed?: typeof loopbackRanges;
  readonly serve?: Partial<ServeOptions>;
  /** Database that other pipelines share. @default none */
  readonly database?: LeaseDatabase;
  /** Configured apps with their targets. @default one whose workers register themselves */
  readonly apps?: Readonly<Record<string, { readonly target?: string }>>;
}

/** A pipeline with a registry on a loopback port, until the test ends. */
export async function startRegistry(t: TestEnd, options: StartRegistryOptions = {}) {
  const { allowed = loopbackRanges, apps = { "acme/worker": {} }, serve, database, ...ofLeases } = options;
  const lines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line) => void lines.push(line) });
  const leases = createLeases(ofLeases);
  const events: string[] = [];
  const waiting = new Set<() => void>();
  leases.onLease(({ kind, lease }: LeaseChange) => {
    events.push(`${kind} ${lease.appId} ${lease.host}:${lease.port}`);
    for (const wake of waiting) {
      wake();
    }
  });
  const registry = createRegistry({ leases, allowed, logger });
  const sharing = database && (await shareLeases({ leases, database, logger, retryMs: 20 }));
  const directory = withRegisteredApps({
    configured: createAppDirectory({ apps, defaultApp: Object.keys(apps)[0] }),
    registered: leases,
  });
  const pipeline = await createPipelineApp({
    directory,
    showApps: true,
    extensions: [() => registry],
    telemetry: testTelemetry(t, pipelineName),
    logger,
  }).serve({ port: 0, ...serve });
  const { transport, close } = openStockTransport(pipeline.port);
  const stop = async () => {
    close();
    await sharing?.close();
    await pipeline.stop({ graceMs: 0 });
  };
  t.after(stop);
  return {
    ...pipeline,
    leases,
    events,
    lines,
    directory,
    client: createPipelineClient({ transport }),
    stop,
    /** Resolves when an event matches; those before count too. */
    async event(pattern: RegExp): Promise<void> {
      while (!events.some((event) => pattern.test(event))) {
        await new Promise<void>((resolve) => {
          const wake = () => {
            waiting.delete(wake);
            resolve();
          };
          waiting.add(wake);
        });
      }
    },
  };
}

/** A worker on a loopback port, until the test ends. */
export async function startWorker(t: TestEnd, engine: ManagedEngine = createFakeEngine(), host = "127.0.0.1") {
  const worker = await createWorkerApp({
    startEngine: async () => engine,
    telemetry: testTelemetry(t, workerName),
    logger,
  }).serve({ port: 0, host });
  t.after(() => worker.stop({ graceMs: 0 }));
  return worker;
}

/** A stream of a foreign client: stock grpc-js, which has nothing of ours but the messages. */
export function openRegister(
  t: TestEnd,
  target: string,
  metadata: Readonly<Record<string, string>> = {},
  credentials = grpc.credentials.createInsecure(),
) {
  const client = new grpc.Client(target, credentials);
  const fields = new grpc.Metadata();
  for (const [name, value] of Object.entries(metadata)) {
    fields.set(name, value);
  }
  const stream = client.makeBidiStreamRequest(
    "/throughline.v1.RegistryService/Register",
    (message: MessageInitShape<typeof RegisterRequestSchema>) =>
      Buffer.from(toBinary(RegisterRequestSchema, create(RegisterRequestSchema, message))),
    (bytes) => fromBinary(RegisterResponseSchema, bytes),
    fields,
  );
  t.after(() => client.close());
  const answers: number[] = [];
  let onAnswer = () => {};
  stream.on("data", ({ lease }: RegisterResponse) => {
    answers.push(lease === undefined ? 0 : durationMs(lease));
    onAnswer();
  });
  const status = new Promise<{ readonly code: string; readonly details: string }>((resolve) => {
    stream.on("status", ({ code, details }: grpc.StatusObject) => resolve({ code: grpc.status[code], details }));
  });
  // The status has it too.
  stream.on("error", () => {});
  return {
    stream,
    /** Resolves at the end of the stream. */
    status,
    /** Sends a message, and resolves with the lease in milliseconds; undefined if the stream ends instead. */
    async send(message: MessageInitShape<typeof RegisterRequestSchema>): Promise<number | undefined> {
      const answer = new Promise<void>((resolve) => {
        onAnswer = resolve;
      });
      stream.write(message);
      await Promise.race([answer, status]);
      return answers.shift();
    },
  };
}
