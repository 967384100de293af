import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { JobFolderError, lockJobFolder, openFolderDatabase } from "../../../src/jobs/pglite-folder.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { fillTestFolder } from "../../support/job-database.js";

/** Id of a process that has ended. */
async function endedProcess(): Promise<number> {
  const child = spawn(process.execPath, ["--version"], { stdio: "ignore" });
  await once(child, "exit");
  return child.pid ?? 0;
}

export function describeFolder(): void {
  describe("the lock of a jobs' folder", () => {
    it("is held by one process, and free after its release", async () => {
      const folder = join(await temporaryFolder(), "new");
      const unlock = await lockJobFolder(folder);
      assert.equal(await readFile(join(folder, "lock"), "utf8"), `${process.pid}\n`);
      await unlock();
      assert.deepEqual(await readdir(folder), []);
    });

    it("of a living process is an error that names the process and what to do", async () => {
      const folder = await temporaryFolder();
      await writeFile(join(folder, "lock"), `${process.ppid}\n`);
      await assert.rejects(lockJobFolder(folder), (error) => {
        assert.ok(error instanceof JobFolderError);
        assert.match(error.message, new RegExp(`^process ${process.ppid} has .* open\\. Stop it, .*--jobs`));
        return true;
      });
      assert.equal(await readFile(join(folder, "lock"), "utf8"), `${process.ppid}\n`);
    });

    for (const [name, content] of [
      ["of a process that has ended", async () => `${await endedProcess()}\n`],
      ["of our own id, which is from a container before this one", () => `${process.pid}\n`],
      ["without an id", () => ""],
    ] as const) {
      it(`${name} is replaced`, async () => {
        const folder = await temporaryFolder();
        await writeFile(join(folder, "lock"), await content());
        const unlock = await lockJobFolder(folder);
        assert.deepEqual(await readdir(folder), ["lock"]);
        assert.equal(await readFile(join(folder, "lock"), "utf8"), `${process.pid}\n`);
        await unlock();
      });
    }
  });

  describe("an embedded database", async () => {
    const folder = await temporaryFolder();

    it("without its version file is damaged, and not replaced by an empty one", async () => {
      const damaged = await temporaryFolder();
      await mkdir(join(damaged, "database", "base"), { recursive: true });
      await assert.rejects(openFolderDatabase(damaged), (error) => {
        assert.ok(error instanceof JobFolderError);
        assert.match(error.message, /is damaged and does not open\. Move the folder away/);
        return true;
      });
      assert.deepEqual(await readdir(join(damaged, "database")), ["base"]);
    });

    it("whose creation was interrupted is created anew", async () => {
      await mkdir(join(folder, "database.new"));
      await writeFile(join(folder, "database.new", "PG_VERSION"), "1");
      const database = await openFolderDatabase(folder);
      const { rows } = await database.query<{ one: number }>("select 1 as one");
      assert.deepEqual(rows, [{ one: 1 }]);
      await database.close();
      assert.deepEqual(await readdir(folder), ["database"]);
    });

    it("that is damaged is an error that names its folder, and stays as it is", async () => {
      const damaged = await temporaryFolder();
      await fillTestFolder(damaged);
      await truncate(join(damaged, "database", "global", "pg_control"), 100);
      await assert.rejects(openFolderDatabase(damaged), (error) => {
        assert.ok(error instanceof JobFolderError);
        assert.match(
          error.message,
          new RegExp(`${damaged}/database is damaged and does not open. Move the folder away`),
        );
        return true;
      });
      assert.equal((await readFile(join(damaged, "database", "global", "pg_control"))).length, 100);
    });
  });
}
