import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { buildGrpcGo } from "./support/go-programs.js";
import { meshTransports } from "./support/mesh-transports.js";
import { type CaseResult, type Part, runCase } from "./support/part.js";
import { loadTestService } from "./support/test-service.js";
import { testCases } from "./transport-cases.js";

/** The client transports of the mesh against grpc-go's interop server. */
export const grpcGoServer: Part = {
  name: "our transports, grpc-go server",
  async run() {
    const programs = await buildGrpcGo();
    const testing = await loadTestService(programs);
    const server = await startServer(programs.server);
    const cases: CaseResult[] = [];
    try {
      for (const [transportName, connect] of Object.entries(meshTransports)) {
        const { transport, close } = connect(server.port);
        for (const [name, run] of Object.entries(testCases)) {
          cases.push(await runCase(`${transportName}: ${name}`, () => run(transport, testing)));
        }
        close();
      }
    } finally {
      await server.stop();
    }
    return { cases };
  },
};

/** Starts grpc-go's server on a free port, which only its log names. */
async function startServer(program: string): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const child = spawn(program, ["-port=0"], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, GRPC_GO_LOG_SEVERITY_LEVEL: "info" },
  });
  const ended = once(child, "exit");
  const port = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`grpc-go's server ended with ${code}`)));
    createInterface(child.stderr).on("line", (line) => {
      const found = /interop server listening on .*:(\d+)$/.exec(line);
      if (found !== null) {
        resolve(Number(found[1]));
      }
    });
  });
  return {
    port,
    async stop() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
