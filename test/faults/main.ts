import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/**
 * Runs the faults in namespaces of their own for network, mounts and processes: when this process ends, however it ends, the kernel ends
 * all processes in there and removes links, filters and mounts. Nothing of the machine's own network is touched.
 */
const isolated = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

const reason = whyNot();
if (reason === undefined) {
  const program = fileURLToPath(new URL("./mesh.fault.ts", import.meta.url));
  const child = spawn("unshare", [...isolated, process.execPath, ...process.execArgv, program], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => child.kill("SIGKILL"));
  }
  const [code] = await once(child, "exit");
  process.exitCode = code === 0 ? 0 : 1;
} else {
  process.stdout.write(`skipped: ${reason}\n`);
}

/** Why the faults cannot be shown here; undefined where they can. */
function whyNot(): string | undefined {
  if (process.platform !== "linux") {
    return "network namespaces are Linux's";
  }
  if (process.getuid?.() !== 0) {
    return "network namespaces need root";
  }
  for (const [command, ...args] of [
    ["unshare", ...isolated, "true"],
    ["ip", "-V"],
    ["tc", "-V"],
    ["nsenter", "-V"],
  ]) {
    const { error, status, stderr } = spawnSync(command ?? "", args, { encoding: "utf8" });
    if (error !== undefined || status !== 0) {
      return `${command} cannot be used here: ${error?.message ?? stderr.trim()}`;
    }
  }
  return undefined;
}
