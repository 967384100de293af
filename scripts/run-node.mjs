import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Runs this Node with arguments, in the root of the checkout, and ends this process as it ended. */
export function runNode(args, env = process.env) {
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const child = spawn(process.execPath, args, { cwd, env, stdio: "inherit" });
  // A terminal sends Ctrl+C to both; the child decides how it ends.
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === "SIGINT" ? 130 : 1);
  });
}
