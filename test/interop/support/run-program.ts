import { execFile } from "node:child_process";

/** How a program ended. */
export interface Ended {
  /** Exit code; undefined where it could not be started or was killed. */
  readonly code: number | undefined;
  /** `ENOENT` where there is no such program. */
  readonly errorCode: string | undefined;
  readonly stdout: Buffer;
  /** Last lines of stderr, else of stdout. */
  readonly tail: string;
}

/** Runs a program to its end. It is killed after the limit. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(
      program,
      args,
      {
        encoding: "buffer",
        maxBuffer: 2 ** 28,
        timeout: options.timeoutMs ?? 30_000,
        killSignal: "SIGKILL",
        env: { ...process.env, ...options.env },
        ...(options.cwd !== undefined && { cwd: options.cwd }),
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : undefined;
        const text = `${stderr.length > 0 ? stderr : stdout}`.trim();
        resolve({
          code,
          errorCode: typeof error?.code === "string" ? error.code : undefined,
          stdout,
          tail: text.split("\n").slice(-10).join("\n") || (error?.message ?? ""),
        });
      },
    );
  });
}
