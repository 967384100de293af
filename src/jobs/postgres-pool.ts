import type { Pool, PoolClient, PoolConfig, QueryConfig } from "pg";
import type { Db } from "pg-boss";

/** Connections to PostgreSQL. Statements are prepared, and those that are sent without waiting for each other share a round trip. */
export interface PostgresPool {
  /** Runs single statements. */
  readonly sql: Pick<Db, "executeSql">;
  /** Runs `work` in one transaction, which is rolled back if it throws. */
  transaction<T>(work: (sql: Db) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** Prepared statements of a connection at most. pg-boss has a text of its own for each queue, and each plan takes memory of the server. */
const maxPrepared = 200;

/**
 * Creates a pool without connections.
 *
 * @param onError called with errors of idle connections, such as a lost one.
 */
export async function createPostgresPool(config: PoolConfig, onError: (error: unknown) => void): Promise<PostgresPool> {
  const { default: pg } = await import("pg");
  // Not in pg's types yet.
  const pipelined = { pipeline: true };
  const pool: Pool = new pg.Pool({ ...config, keepAlive: true, ...pipelined });
  pool.on("error", onError);
  const query = prepareQueries();

  return {
    sql: {
      async executeSql(text, values) {
        const client = await take(pool);
        try {
          const result = await client.query(query(text, values));
          client.release();
          return result;
        } catch (error) {
          // A new connection knows no statement that a change of the tables has made invalid.
          client.release(true);
          throw error;
        }
      },
    },
    async transaction(work) {
      const client = await take(pool);
      let failure: unknown;
      const note = (error: unknown): void => {
        failure ??= error;
      };
      const fail = (error: unknown): never => {
        note(error);
        throw error;
      };
      // Between two statements, the reason why the server closes the connection comes by this event alone.
      client.on("error", note);
      try {
        // Waited for with the statement that follows it on the connection.
        const begun = client.query("BEGIN");
        begun.catch(() => {});
        const result = await work({ executeSql: (text, values) => client.query(query(text, values)).catch(fail) });
        const { command } = await client.query("COMMIT").catch(fail);
        if (command !== "COMMIT") {
          throw failure ?? new Error("the server has rolled the transaction back");
        }
        client.release();
        return result;
      } catch (error) {
        // The server rolls back what a closed connection began.
        client.release(failure !== undefined || !(await rollBack(client)));
        throw isUnusable(error) ? (failure ?? error) : error;
      } finally {
        client.removeListener("error", note);
      }
    },
    close: () => pool.end(),
  };
}

/** Takes a connection. One that is lost rejects its statements, so its event has nothing to do but be heard. */
async function take(pool: Pool): Promise<PoolClient> {
  const client = await pool.connect();
  if (client.listenerCount("error") === 0) {
    client.on("error", () => {});
  }
  return client;
}

/** Whether an error says only that the connection had been lost before. */
function isUnusable(error: unknown): boolean {
  return error instanceof Error && error.message.includes("not queryable");
}

function rollBack(client: PoolClient): Promise<boolean> {
  return client.query("ROLLBACK").then(
    () => true,
    () => false,
  );
}

/** Names single statements by their text. */
function prepareQueries(): (text: string, values: unknown[] | undefined) => QueryConfig {
  const names = new Map<string, string>();
  return (text, values) => {
    // Several statements in one text cannot be prepared.
    if (text.includes(";")) {
      return { text, ...(values !== undefined && { values }) };
    }
    let name = names.get(text);
    if (name === undefined && names.size < maxPrepared) {
      name = `throughline_${names.size}`;
      names.set(text, name);
    }
    return { text, values: values ?? [], ...(name !== undefined && { name }) };
  };
}
