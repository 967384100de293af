import assert from "node:assert/strict";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { createPipelineClient } from "../../src/client/client.js";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../src/gen/grpc/health/v1/health_pb.js";
import { connectApp } from "../../src/mesh/balance/connect-app.js";
import { readPolicies } from "../../src/mesh/grpc/policies.js";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { documentedBlock } from "../support/documented-block.js";
import { steadyPort } from "../support/steady-port.js";
import { startNginx } from "./support/nginx.js";
import { type CaseResult, type Part, runCase } from "./support/part.js";

/** Steps of a streamed generation. */
const steps = 6;

/** Clients of a pipeline behind nginx with the configuration of the documentation. */
export const nginx: Part = {
  name: "clients, nginx, our pipeline",
  async run() {
    const gate = createGate();
    const engine = createFakeEngine({
      beforeStep: (step, { prompt }) => (prompt === "hold" ? gate.seen(step - 1) : undefined),
    });
    const mesh = await createTestMesh({ wire: "port", engine });
    const [http, grpc, plain] = [await steadyPort(), await steadyPort(), await steadyPort()];
    const pipeline = new URL(mesh.pipelineUrl).host;
    const defaults = `server { listen 127.0.0.1:${plain}; location / { proxy_pass http://${pipeline}; } }`;
    const proxy = await startNginx(`${configure({ pipeline, http, grpc })}\n${defaults}`);
    const sessions = new Http2SessionManager(`http://127.0.0.1:${grpc}`);
    const over = (port: number) => ({ baseUrl: `http://127.0.0.1:${port}`, httpVersion: "1.1" }) as const;
    const transports: Readonly<Record<string, Transport>> = {
      gRPC: createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpc}`, sessionManager: sessions }),
      Connect: createConnectTransport(over(http)),
      "gRPC-Web": createGrpcWebTransport(over(http)),
      // nginx then speaks HTTP/1.0 to the pipeline, and buffers unless a response forbids it.
      "Connect, nginx's defaults": createConnectTransport(over(plain)),
      "gRPC-Web, nginx's defaults": createGrpcWebTransport(over(plain)),
    };
    const own = connectApp({ appId: "interop/pipeline", target: `127.0.0.1:${grpc}`, policies: readPolicies({}) });
    const all = Object.entries({ ...transports, "our balanced client": own.transport });
    try {
      const cases: CaseResult[] = [];
      for (const [name, transport] of all) {
        cases.push(
          await runCase(`unary call, ${name}`, async () => {
            const { image } = await createPipelineClient({ transport }).generate({ prompt: "a red heart" });
            assert.match(image?.url ?? "", /^data:image\/png;base64,/);
          }),
          await runCase(`stream arrives event by event, ${name}`, () => streamStepByStep(transport, gate)),
        );
      }
      cases.push(
        await runCase("health check over HTTP/1.1", async () => {
          assert.equal((await fetch(`http://127.0.0.1:${http}/readyz`)).status, 200);
        }),
        await runCase("health check over gRPC", async () => {
          assert.ok(transports["gRPC"]);
          const { status } = await createClient(Health, transports["gRPC"]).check({});
          assert.equal(status, ServingStatus.SERVING);
        }),
      );
      await mesh.stop();
      for (const [name, transport] of all) {
        cases.push(
          await runCase(`lost pipeline is UNAVAILABLE, ${name}`, () =>
            assert.rejects(createPipelineClient({ transport }).generate({ prompt: "a red heart" }), (error) => {
              assert.equal(Code[ConnectError.from(error).code], "Unavailable");
              return true;
            }),
          ),
        );
      }
      return { cases, comparison: proxy.version };
    } finally {
      own.close();
      sessions.abort();
      await proxy.stop();
      await mesh.stop();
    }
  },
};

/** The documented configuration with the ports of this run. */
function configure({ pipeline, http, grpc }: { pipeline: string; http: number; grpc: number }): string {
  const block = documentedBlock("docs/deployment.md", "nginx");
  return Object.entries({
    "server 127.0.0.1:8080;": `server ${pipeline};`,
    "listen 80;": `listen 127.0.0.1:${http};`,
    "listen 50050 http2;": `listen 127.0.0.1:${grpc} http2;`,
  }).reduce((text, [documented, actual]) => {
    assert.ok(text.includes(documented), `the nginx block of docs/deployment.md has no "${documented}"`);
    return text.replaceAll(documented, actual);
  }, block);
}

type Gate = ReturnType<typeof createGate>;

/** Lets a generation make its next step once the client has the event of the one before. A proxy that buffers would stop it. */
function createGate() {
  let last = 0;
  let wake = () => {};
  return {
    reset() {
      last = 0;
    },
    report(step: number) {
      last = Math.max(last, step);
      wake();
    },
    async seen(step: number): Promise<void> {
      while (last < step) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

async function streamStepByStep(transport: Transport, gate: Gate): Promise<void> {
  gate.reset();
  const seen: number[] = [];
  let hasResult = false;
  const request = { prompt: "hold", options: { numInferenceSteps: steps } };
  for await (const { event } of createPipelineClient({ transport }).generateStream({ request })) {
    if (event.case === "progress" && event.value.step > 0) {
      seen.push(event.value.step);
      gate.report(event.value.step);
    }
    hasResult ||= event.case === "result";
  }
  assert.ok(hasResult);
  assert.equal(new Set(seen).size, steps);
}
