import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { lockJobFolder } from "../../src/jobs/folder-lock.js";
import { JobFolderError } from "../../src/jobs/pglite-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { loaderArguments, testProgram } from "../support/test-program.js";

const holder = fileURLToPath(testProgram("../support/folder-holder", import.meta.url));

function isOpenBy(name: string, folder: string) {
  return (error: unknown) => {
    assert.ok(error instanceof JobFolderError);
    assert.equal(
      error.message,
      `${name} has the jobs' folder ${folder} open. Stop it, or name another folder with --jobs`,
    );
    return true;
  };
}

describe("the lock of a jobs' folder", () => {
  it("is held once, also in one process, and free after its release", async () => {
    const folder = join(await temporaryFolder(), "new");
    const unlock = await lockJobFolder(folder);
    await assert.rejects(lockJobFolder(folder), isOpenBy(`process ${process.pid} on ${hostname()}`, folder));
    unlock();
    unlock();
    const unlockAgain = await lockJobFolder(folder);
    assert.equal(await readFile(join(folder, "lock"), "utf8"), `process ${process.pid} on ${hostname()}\n`);
    unlockAgain();
    assert.deepEqual(await readdir(folder), ["lock"]);
    assert.equal(await readFile(join(folder, "lock"), "utf8"), "");
  });

  it("of another process is an error that names it, and free at once when that is killed", async () => {
    const folder = await temporaryFolder();
    const child = spawn(process.execPath, [...loaderArguments, holder, folder], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    const rejected = isOpenBy(`process ${child.pid} on ${hostname()}`, folder);
    await assert.rejects(lockJobFolder(folder), rejected);
    // As if a container with the same process ids had the folder: the id of the holder is this process's, or a wrong one.
    await writeFile(join(folder, "lock"), `process ${process.pid} on ${hostname()}\n`);
    await assert.rejects(lockJobFolder(folder), isOpenBy(`process ${process.pid} on ${hostname()}`, folder));
    await writeFile(join(folder, "lock"), "\u001b[31m");
    await assert.rejects(lockJobFolder(folder), isOpenBy("another process", folder));
    child.kill("SIGKILL");
    await once(child, "exit");
    (await lockJobFolder(folder))();
  });

  it("is free where a file names a process that runs, such as another one with the same id after a reboot", async () => {
    const folder = await temporaryFolder();
    for (const content of [`process ${process.ppid} on ${hostname()}\n`, `${process.ppid}\n`, ""]) {
      await writeFile(join(folder, "lock"), content);
      (await lockJobFolder(folder))();
    }
  });

  it("is held by one of many that want it at the same time", async () => {
    const folder = await temporaryFolder();
    const all = await Promise.allSettled(Array.from({ length: 20 }, () => lockJobFolder(folder)));
    assert.equal(all.filter(({ status }) => status === "fulfilled").length, 1);
  });
});
