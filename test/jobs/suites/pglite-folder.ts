import assert from "node:assert/strict";
import { mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { JobFolderError, openFolderDatabase } from "../../../src/jobs/pglite-folder.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { fillTestFolder } from "../../support/job-database.js";

export function describeFolder(): void {
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
