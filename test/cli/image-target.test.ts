import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, before, describe, suite, test } from "node:test";
import { CliError } from "../../src/cli/errors.js";
import { imageFileName, imageTargetOf, toStdout } from "../../src/cli/image/image-target.js";
import { checkOutputPath, writeFileWhole } from "../../src/cli/image/write-file.js";
import { expandHome, readHubVariables } from "../../src/cli/options/model-options.js";
import { makeImageFolder } from "../../src/cli/services/image-stores.js";
import { readCpuQuota } from "../../src/cli/services/model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const file = new PassThrough();

suite("file of an image", async () => {
  const folder = await temporaryFolder();
  const targetOf = (out: string, format?: "png" | "jpeg" | "webp") =>
    imageTargetOf({ out, format, json: false }, "a heart", file);

  test("--out sets the format by its extension, or uses --format without one", () => {
    for (const [name, format] of [
      ["x.jpg", "jpeg"],
      ["x.JPEG", "jpeg"],
      ["x.webp", "webp"],
      ["x.png", "png"],
    ] as const) {
      assert.deepEqual(targetOf(join(folder, name)), { path: join(folder, name), format });
    }
    assert.equal(targetOf(join(folder, "x")).format, undefined);
    assert.equal(targetOf(join(folder, "x"), "webp").format, "webp");
    assert.equal(targetOf(join(folder, "x.data"), "webp").format, "webp");
  });

  test("--out with an unknown extension, or one that contradicts --format, is an error", () => {
    assert.throws(() => targetOf(join(folder, "x.jpg"), "png"), /x\.jpg is a jpeg file and --format is png: leave out/);
    assert.throws(() => targetOf(join(folder, "x.gif")), /\.gif is no format of images here; rename it to \.png/);
  });

  test("--out - writes to stdout unless that is a terminal or carries JSON", () => {
    assert.deepEqual(targetOf("-", "jpeg"), { path: toStdout, format: "jpeg" });
    const how = { out: "-", format: undefined };
    assert.throws(() => imageTargetOf({ ...how, json: true }, "", file), /--out - and --json both write to stdout/);
    const terminal = Object.assign(new PassThrough(), { isTTY: true });
    assert.throws(() => imageTargetOf({ ...how, json: false }, "", terminal), /redirect stdout to a file or a pipe/);
  });
});

suite("folder for images", async () => {
  test("image folder that cannot be created is an immediate error, also below /proc", async () => {
    const folder = await temporaryFolder();
    for (const path of [...(process.platform === "linux" ? ["/proc/none/images"] : []), "/dev/null/images"]) {
      await assert.rejects(makeImageFolder(path), (error) => {
        assert.ok(error instanceof CliError);
        assert.match(
          error.message,
          /^cannot create the folder of --images, \/.*\. Name a folder that this user can write$/,
        );
        return true;
      });
    }
    await makeImageFolder(join(folder, "a/b/c"));
    await makeImageFolder(join(folder, "a/b/c"));
  });
});

test("threads follow the lowest cgroup CPU quota, version 1 and 2", async () => {
  const quotaOf = (files: Record<string, string>) =>
    readCpuQuota(async (name) => files[name] ?? Promise.reject(new Error("ENOENT")));
  assert.equal(await quotaOf({}), undefined);
  const two = { "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n" };
  assert.equal(await quotaOf(two), undefined);
  assert.equal(await quotaOf({ ...two, "/sys/fs/cgroup/a/cpu.max": "150000 100000\n" }), 1.5);
  const one = {
    "/proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n",
    "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "200000\n",
    "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
  };
  assert.equal(await quotaOf(one), 2);
  assert.equal(await quotaOf({ ...one, "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n" }), undefined);
});

test("error without a home folder says to set HF_HOME, which is then enough", () => {
  const none = () => {
    throw new Error("uv_os_homedir returned ENOENT");
  };
  assert.throws(
    () => expandHome("~/.cache/huggingface/hub", none),
    /^CliError: cannot find ~\/\.cache\/huggingface\/hub: this user has no home folder\. Set HF_HOME to a folder for models, or HOME$/,
  );
  assert.equal(expandHome(readHubVariables({ HF_HOME: "/hf" }).cacheFolder, none), "/hf/hub");
});

describe("image file names", () => {
  test("image file name is made from the prompt: no path, no reserved Windows name, and distinct for distinct emoji", () => {
    const cases = [
      ["a red heart", "a-red-heart.png"],
      ["  A Red\tHeart! ", "a-red-heart.png"],
      ["../../etc/passwd", "etc-passwd.png"],
      [".hidden", "hidden.png"],
      ["--out x", "out-x.png"],
      ["un cœur d’été", "un-cœur-d-été.png"],
      ["❤️", "image-090f3234.png"],
      ["🐈🌙", "image-d2324377.png"],
      ["con", "con-image.png"],
      ["NUL!", "nul-image.png"],
      ["COM1", "com1-image.png"],
      ["con artist", "con-artist.png"],
      ["", "image.png"],
      ["a\0b", "a-b.png"],
      ["x".repeat(500), `${"x".repeat(60)}.png`],
      [`start ${"y".repeat(60)}`, "start.png"],
    ] as const;
    for (const [prompt, name] of cases) {
      assert.equal(imageFileName(prompt), name);
    }
  });
});

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
