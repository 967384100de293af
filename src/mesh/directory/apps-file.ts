import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import * as z from "zod";
import { appIdPattern } from "../app-id.js";
import { policiesSchema } from "../grpc/policies.js";
import { type ReloadOptions, reloadFiles } from "../tls/reloaded-files.js";
import { type AppDirectory, type AppEntry, createAppDirectory } from "./app-directory.js";
import { openAppSecurity } from "./app-security.js";

const text = z.string("must be a string").min(1, "must not be empty");

const appSchema = z.strictObject({
  target: text.optional(),
  policies: policiesSchema.optional(),
  tls: z
    .strictObject({ ca: text.optional(), cert: text.optional(), key: text.optional(), serverName: text.optional() })
    .optional(),
  keyFile: text.optional(),
});

const fileSchema = z.strictObject({
  default: z.string("must be a string").regex(appIdPattern, "must be of the form owner/name").optional(),
  // An entry without fields is null in YAML.
  apps: z.record(z.string(), appSchema.nullable(), "must be a mapping of app ids"),
});

type AppInFile = z.output<typeof appSchema>;

/** Directory that is reloaded from its file until it is closed. */
export interface AppsFile extends AppDirectory {
  /** Stops reloading the file. */
  close(): void;
}

/**
 * Read an apps file, YAML or JSON, and reload it on changes:
 *
 * ```yaml
 * default: local/text-to-image-worker   # for requests without an app id; default: the only app
 * apps:
 *   local/text-to-image-worker:
 *     target: dns:///workers.internal:50052            # absent: its workers register themselves
 *     policies: { retry: { maxAttempts: 3 } }          # absent: the defaults
 *     tls: { ca: ca.pem, cert: pipeline.pem, key: pipeline.key, serverName: workers.internal }  # paths from this file's folder
 *     keyFile: worker-key.txt                          # our caller's key for the workers
 * ```
 *
 * An invalid file is rejected as a whole: with an Error at the start, with `onRejected` later, where the last valid version stays in use. The
 * files of `tls` and `keyFile` are checked with it and reloaded on their own changes.
 *
 * @throws Error that names the file, the app, the field and the problem.
 */
export function reloadAppsFile(file: string, options: ReloadOptions): AppsFile {
  const reloaded = reloadFiles({
    files: [file],
    make: ([contents]) => directoryOf(String(contents), file),
    ...options,
  });
  return {
    get appIds() {
      return reloaded.current.appIds;
    },
    get defaultApp() {
      return reloaded.current.defaultApp;
    },
    lookUp: (appId) => reloaded.current.lookUp(appId),
    onChange: (listener) => reloaded.onChange(() => listener()),
    close: reloaded.close,
  };
}

function directoryOf(contents: string, file: string): AppDirectory {
  const result = fileSchema.safeParse(parsed(contents, file));
  if (!result.success) {
    throw new Error(`${file}: ${result.error.issues.map(describe).join("; ")}`);
  }
  const { apps, default: chosen } = result.data;
  const folder = dirname(file);
  const entries = Object.entries(apps).map(([appId, app]) => [appId, entryOf(app ?? {}, folder)] as const);
  const [only, second] = Object.keys(apps);
  const defaultApp = chosen ?? (second === undefined ? only : undefined);
  try {
    const directory = createAppDirectory({
      apps: Object.fromEntries(entries),
      defaultApp,
    });
    const problems = entries.flatMap(([appId, { security }]) => securityProblem(appId, security) ?? []);
    if (problems.length > 0) {
      throw new Error(problems.map(({ message }) => message).join("; "), { cause: problems[0] });
    }
    return directory;
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** JSON is YAML too. */
function parsed(contents: string, file: string): unknown {
  try {
    return parse(contents, { maxAliasCount: 0 });
  } catch (error) {
    // The first line has problem and position; the others quote the file.
    const [summary] = error instanceof Error ? error.message.split("\n") : [];
    throw new Error(`${file} is neither YAML nor JSON: ${summary?.replace(/:$/, "")}`, { cause: error });
  }
}

function entryOf({ target, policies, tls, keyFile }: AppInFile, folder: string): AppEntry {
  const path = (name: string | undefined) => (name === undefined ? undefined : resolve(folder, name));
  return {
    target,
    policies,
    ...((tls !== undefined || keyFile !== undefined) && {
      security: {
        tls: tls && { ...tls, ca: path(tls.ca), cert: path(tls.cert), key: path(tls.key) },
        keyFile: path(keyFile),
      },
    }),
  };
}

/** Validate the files by reading them once; each connection reloads its own. Undefined if they are valid. */
function securityProblem(appId: string, security: AppEntry["security"]): Error | undefined {
  try {
    if (security !== undefined) {
      openAppSecurity(security, { onRejected() {} }).close();
    }
    return undefined;
  } catch (error) {
    return new Error(`app "${appId}": ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** `app "a/b": policies.retry.maxAttempts: Too big: expected number to be <=5`. */
function describe({ path: [part, appId, ...rest], ...issue }: z.core.$ZodIssue): string {
  const named = part === "apps" && appId !== undefined;
  const location = named ? `app "${String(appId)}"` : [part, appId].filter((each) => each !== undefined).join(".");
  const field = rest.map(String).join(".");
  const message =
    issue.code === "unrecognized_keys" ? issue.keys.map((key) => `${key} is unknown`).join("; ") : issue.message;
  return [location || "the file", field, message].filter((each) => each !== "").join(": ");
}
