import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { access, cp, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { PGlite } from "@electric-sql/pglite";
import { openJobDatabase } from "../../src/jobs/job-database.js";
import { migrationsText } from "../../src/jobs/job-schema.js";

// PGlite runs for seconds only, which its better machine code does not repay.
setFlagsFromString("--liftoff-only");

/** A new embedded database takes seconds to make, and a copy of one half a second: the first test that needs one leaves it to the others. */
const snapshotKey = createHash("sha256")
  .update(
    JSON.stringify([
      readFileSync("package.json", "utf8").match(/"(?:pg-boss|@electric-sql\/pglite)": .*/g),
      migrationsText,
    ]),
  )
  .digest("hex")
  .slice(0, 16);
const snapshotFolder = "node_modules/.cache/throughline";

/** Puts an embedded database with the tables of jobs and no job into a folder of jobs. */
export async function fillTestFolder(folder: string): Promise<void> {
  const path = join(snapshotFolder, snapshotKey);
  const isMade = await access(path).then(
    () => true,
    () => false,
  );
  if (!isMade) {
    await makeFolderSnapshot(path);
  }
  await cp(path, join(folder, "database"), { recursive: true });
}

async function makeFolderSnapshot(path: string): Promise<void> {
  const made = await createTestDatabase();
  const dump = await made.dumpDataDir("none");
  await made.close();
  const draft = `${path}.${process.pid}`;
  await (await PGlite.create(draft, { loadDataDir: dump })).close();
  try {
    await rename(draft, path);
  } catch (error) {
    // Another process was faster.
    await rm(draft, { recursive: true });
    await access(path).catch(() => Promise.reject(error));
  }
}

/** An embedded database in memory, with the tables of jobs and no job. */
export async function createTestDatabase(): Promise<PGlite> {
  const path = join(snapshotFolder, `${snapshotKey}.tar`);
  const known = await readFile(path).catch(() => undefined);
  if (known !== undefined) {
    return PGlite.create({ loadDataDir: new Blob([known]) });
  }
  const made = await PGlite.create();
  // The database stays open for the dump, which `close` would end.
  const database = await openJobDatabase({ source: made, onError: () => {} });
  await database.boss.stop({ graceful: false });
  const dump = await made.dumpDataDir("none");
  await mkdir(snapshotFolder, { recursive: true });
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, Buffer.from(await dump.arrayBuffer()));
  await rename(draft, path);
  return made;
}
