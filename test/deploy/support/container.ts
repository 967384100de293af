import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";

/**
 * Mounts a tree at /app of a root of its own, with the programs and libraries of this machine and this process's Node, all read-only but
 * /tmp, and runs a program there as user 10001 without any capability. It stays one process, so that signals reach the program.
 */
const script = `
set -e
tree=$1 node=$2; shift 2
root=$(mktemp -d)
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
for path in usr bin lib lib64 etc; do
  if [ -e "/$path" ]; then
    mkdir "$root/$path"; mount --bind "/$path" "$root/$path"; mount -o remount,bind,ro "$root/$path"
  fi
done
mkdir "$root/app" "$root/node" "$root/tmp" "$root/proc" "$root/dev"
mount --bind "$tree" "$root/app"; mount -o remount,bind,ro "$root/app"
touch "$root/node/node"; mount --bind "$node" "$root/node/node"; mount -o remount,bind,ro "$root/node/node"
mount -t tmpfs -o mode=1777,size=256m tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -o remount,ro "$root"
cd /
exec /usr/sbin/chroot "$root" /usr/bin/setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
`;

/** Why nothing can be run so on this machine; false where it can. */
export const whyNoContainer: string | false = findReason();

function findReason(): string | false {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    return "mount namespaces of Linux need root";
  }
  try {
    execFileSync(
      "unshare",
      ["--mount", "sh", "-c", "mount --make-rprivate / && test -x /usr/sbin/chroot -a -x /usr/bin/setpriv"],
      {
        stdio: "pipe",
      },
    );
    return false;
  } catch (error) {
    return `no mount namespace can be made here: ${error instanceof Error ? error.message : error}`;
  }
}

/** A program that runs in a container's way. */
export interface Contained {
  readonly process: ChildProcess;
  /** All that it wrote so far, to both streams. */
  output(): string;
  /** Resolves with the first match in its output; rejects when it ends without one. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves with the exit code, or the signal. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

/** Starts a program of a staged tree. @param variables the whole environment besides PATH and HOME. */
export function startContained(
  tree: string,
  command: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Contained {
  const env = { ...variables, PATH: "/node:/usr/local/bin:/usr/bin:/bin", HOME: "/tmp" };
  const node = process.env["CONTAINER_NODE"] ?? process.execPath;
  const child = spawn("/usr/bin/unshare", ["--mount", "/bin/sh", "-c", script, "sh", tree, node, ...command], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
  }
  const ended = once(child, "close").then(([code, signal]): number | NodeJS.Signals | null => code ?? signal);
  return {
    process: child,
    output: () => text,
    ended,
    waitFor(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(text);
          if (match) {
            resolve(match);
          }
        };
        child.stdout.on("data", look);
        child.stderr.on("data", look);
        look();
        void ended.then((end) => reject(new Error(`ended with ${end}, without ${pattern}:\n${text}`)));
      });
    },
  };
}

/** Runs a program of a staged tree to its end. */
export async function runContained(
  tree: string,
  command: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<{ readonly end: number | NodeJS.Signals | null; readonly output: string }> {
  const contained = startContained(tree, command, variables);
  const end = await contained.ended;
  return { end, output: contained.output() };
}

/** The command line of a tree. */
export const commandLine: readonly string[] = ["node", "/app/dist/cli/main.js"];

/** Starts a service of a staged tree. It is killed after the test. */
export function startService(
  t: TestContext,
  tree: string,
  command: readonly string[],
  variables: Readonly<Record<string, string>>,
): Contained {
  const contained = startContained(tree, [...commandLine, ...command], variables);
  t.after(() => contained.process.kill("SIGKILL"));
  return contained;
}
