import { buildGrpcGo } from "./support/go-programs.js";
import { type Part, runCase } from "./support/part.js";
import { runProgram } from "./support/run-program.js";
import { createTestServiceApp } from "./support/serve-test-service.js";
import { loadTestService } from "./support/test-service.js";
import { testCases } from "./transport-cases.js";

/** grpc-go's interop client against an app. */
export const grpcGoClient: Part = {
  name: "grpc-go client, our server",
  async run() {
    const programs = await buildGrpcGo();
    const app = await createTestServiceApp(await loadTestService(programs)).serve({ port: 0 });
    const cases = [];
    try {
      for (const name of Object.keys(testCases)) {
        cases.push(
          await runCase(name, async () => {
            const args = ["-server_host=127.0.0.1", `-server_port=${app.port}`, `-test_case=${name}`];
            const { code, tail } = await runProgram(programs.client, args, { timeoutMs: 25_000 });
            if (code !== 0) {
              throw new Error(tail);
            }
          }),
        );
      }
    } finally {
      await app.stop({ graceMs: 0 });
    }
    return { cases };
  },
};
