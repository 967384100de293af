import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Where Debian puts PostgreSQL's programs, the newest version first; undefined where there is none. */
function findPrograms(): string | undefined {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).sort((one, other) => Number(other) - Number(one)) : [];
  return versions.map((version) => join(root, version, "bin")).find((folder) => existsSync(join(folder, "initdb")));
}

const programs = findPrograms();

/** Why the tests with PostgreSQL cannot run here; false where they can. */
export const whyNoPostgres: string | false =
  programs === undefined
    ? "PostgreSQL is not installed: install Debian's package postgresql, of which no server need run"
    : false;

/** PostgreSQL refuses to run as root; this is Debian's user nobody, whom every system has. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

export type Postgres = Awaited<ReturnType<typeof startPostgres>>;

/** Starts a PostgreSQL server of its own on a free port, with its data in a temporary folder. */
export async function startPostgres() {
  if (programs === undefined) {
    throw new Error(String(whyNoPostgres));
  }
  const folder = mkdtempSync(join(tmpdir(), "throughline-postgres-"));
  if (user.uid !== undefined) {
    chownSync(folder, user.uid, user.gid);
  }
  const data = join(folder, "data");
  const options = { cwd: folder, ...user };
  await run(join(programs, "initdb"), ["-D", data, "-U", "test", "-A", "trust", "--no-sync", "-E", "UTF8"], options);
  const port = await freePort();
  const urlOf = (database: string) => `postgres://test@127.0.0.1:${port}/${database}`;
  let server: ChildProcess | undefined;

  const isReady = () =>
    run(join(programs, "pg_isready"), ["-h", "127.0.0.1", "-p", `${port}`, "-U", "test", "-d", "postgres"]).then(
      () => true,
      () => false,
    );
  const start = async (): Promise<void> => {
    const flags = ["-D", data, "-p", `${port}`, "-h", "127.0.0.1", "-k", folder, "-c", "max_connections=200"];
    const started = spawn(join(programs, "postgres"), flags, { ...options, stdio: "ignore" });
    server = started;
    while (!(await isReady())) {
      if (started.exitCode !== null) {
        throw new Error(`postgres ended with ${started.exitCode}`);
      }
    }
  };
  /** SIGINT shuts down in order; SIGKILL is a crash of the server and all its sessions. */
  const end = async (signal: "SIGINT" | "SIGKILL"): Promise<void> => {
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) {
      return;
    }
    const ended = once(server, "exit");
    if (signal === "SIGKILL") {
      // The backends first, so that none finishes its transaction.
      for (const pid of await childrenOf(server.pid)) {
        killIfLiving(pid);
      }
    }
    server.kill(signal);
    await ended;
  };
  await start();
  let databases = 0;
  return {
    urlOf,
    port,
    /** Process id of the running server. */
    get pid(): number {
      return server?.pid ?? 0;
    },
    /** Creates an empty database and returns its URL. */
    async createDatabase(): Promise<string> {
      const name = `jobs${databases++}`;
      await run(join(programs, "createdb"), ["-h", "127.0.0.1", "-p", `${port}`, "-U", "test", name]);
      return urlOf(name);
    },
    /** Runs SQL and returns its rows, columns separated by `|`. */
    async query(url: string, sql: string): Promise<string[]> {
      const { stdout } = await run(join(programs, "psql"), [url, "-X", "-A", "-t", "-q", "-c", sql]);
      return stdout.split("\n").filter((line) => line !== "");
    },
    start,
    end,
    async remove(): Promise<void> {
      await end("SIGINT");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function childrenOf(pid: number | undefined): Promise<readonly number[]> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid="]);
  return stdout.split("\n").flatMap((line) => {
    const [child, parent] = line.trim().split(/\s+/).map(Number);
    return parent === pid && child !== undefined ? [child] : [];
  });
}

function killIfLiving(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) {
      throw error;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) {
    throw new Error("no port");
  }
  return address.port;
}
