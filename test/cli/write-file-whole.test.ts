import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { checkOutputPath, writeFileWhole } from "../../src/cli/commands/image-file.js";
import { CliError } from "../../src/cli/errors.js";

suite("atomic file write", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "throughline-test-"));
  });
  after(() => rm(folder, { recursive: true }));

  const failure = (message: RegExp) => (error: unknown) => {
    assert.ok(error instanceof CliError);
    assert.match(error.message, message);
    assert.equal(error.exitCode, 1);
    return true;
  };

  test("file write replaces an older file and leaves nothing else", async () => {
    const path = join(folder, "heart.png");
    await writeFile(path, "older and longer");
    writeFileWhole(path, Buffer.from("new"));
    assert.equal(await readFile(path, "utf8"), "new");
    assert.deepEqual(await readdir(folder), ["heart.png"]);
  });

  test("failed file write leaves no temporary file", async () => {
    const path = join(folder, "is-a-folder");
    await mkdir(path);
    await writeFile(join(path, "kept"), "");
    assert.throws(() => writeFileWhole(path, Buffer.from("x")), failure(/^cannot write .*is-a-folder/));
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.endsWith(".tmp")),
      [],
    );
  });

  test("output path without a usable folder is rejected early", async () => {
    await mkdir(join(folder, "taken"));
    await writeFile(join(folder, "file"), "");
    assert.throws(() => checkOutputPath(join(folder, "none", "x.png")), failure(/its folder does not exist$/));
    assert.throws(() => checkOutputPath(join(folder, "file", "x.png")), failure(/file is not a folder$/));
    assert.throws(() => checkOutputPath(join(folder, "taken")), failure(/it is a folder$/));
    checkOutputPath(join(folder, "new.png"));
  });
});
