import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { findSoftwareVulkan } from "./software-vulkan.js";

/** Generates on WebGPU without a GPU: on SwiftShader, the Vulkan driver in software that Chromium brings. */
const found = findSoftwareVulkan();
if ("environment" in found) {
  const program = fileURLToPath(new URL("./webgpu.gpu.ts", import.meta.url));
  // The loader of shared libraries reads its variables when a process starts.
  const child = spawn(process.execPath, [...process.execArgv, program], {
    stdio: "inherit",
    env: { ...process.env, ...found.environment },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  const [code] = await once(child, "exit");
  process.exitCode = code === 0 ? 0 : 1;
} else {
  process.stdout.write(`skipped: ${found.reason}\n`);
}
