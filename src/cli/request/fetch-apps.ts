import * as http from "node:http";
import * as https from "node:https";
import { text } from "node:stream/consumers";
import { z } from "zod";
import { printable } from "../../studio/trace-text.js";
import { CommandError } from "../command-error.js";
import type { ServerAccess } from "../service/server-access.js";
import type { ListedApp } from "../terminal/apps-table.js";

const figure = z.number().nonnegative();

const appsJson: z.ZodType<{ readonly apps: readonly ListedApp[] }> = z.object({
  apps: z.array(
    z.object({
      appId: z.string(),
      target: z.string(),
      isDefault: z.boolean(),
      workers: z.array(
        z.object({
          address: z.string(),
          health: z.enum(["connecting", "serving", "refusing", "down"]),
          inFlight: figure,
          others: figure,
          serviceMs: figure.nullable(),
          expectedWaitMs: figure.nullable(),
          refusesForMs: figure,
          ejected: z.boolean(),
        }),
      ),
    }),
  ),
});

/** Which pipeline to ask, and how to get in. */
export interface AppsQuery {
  /** Base URL of the pipeline. */
  readonly pipeline: string;
  readonly access: ServerAccess;
  readonly interrupt: AbortSignal;
}

const timeoutMs = 10_000;

/**
 * Asks a pipeline how its apps are.
 *
 * @throws CommandError that says what it answered instead, or the reason of `interrupt`.
 */
export async function fetchApps({ pipeline, access, interrupt }: AppsQuery): Promise<readonly ListedApp[]> {
  const url = new URL("/apps", pipeline);
  try {
    const { status, body } = await get(url, access, AbortSignal.any([interrupt, AbortSignal.timeout(timeoutMs)]));
    if (status === 404) {
      throw new Error("it does not tell of its apps; it does with --show-apps");
    }
    if (status !== 200) {
      throw new Error(`it answered ${status}: ${body}`);
    }
    return appsJson.parse(JSON.parse(body)).apps;
  } catch (error) {
    interrupt.throwIfAborted();
    const words =
      error instanceof z.ZodError || error instanceof SyntaxError ? "its answer is none of a pipeline's" : error;
    const message = words instanceof Error ? words.message : String(words);
    throw new CommandError(`cannot list the apps of ${pipeline}: ${printable(message, 300)}`, { cause: error });
  }
}

/** Not fetch: Node's takes no certificate. */
async function get(url: URL, { tls, authorization }: ServerAccess, signal: AbortSignal) {
  const headers = authorization === undefined ? {} : { authorization };
  const options = { headers, signal, agent: false } as const;
  const request = url.protocol === "https:" ? https.get(url, { ...options, ...tls }) : http.get(url, options);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once("response", resolve).once("error", reject);
  });
  return { status: response.statusCode, body: await text(response) };
}
