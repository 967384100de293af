import assert from "node:assert/strict";
import { mkdir, readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createDirectoryStore } from "../../src/image/directory-store.js";
import { createJobFolder } from "../../src/jobs/job-files.js";
import { deleteLeftovers } from "../../src/jobs/leftovers.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const idOf = (digit: string) => digit.repeat(32);
const [one, other] = [idOf("d"), idOf("e")];
const fileName = `${idOf("f")}.png`;
const bytes = Buffer.from("image");
const none = { existing: async () => new Set<string>() };

/** Makes a job's folder older than any that may still be in the making. */
async function age(images: string, id: string): Promise<void> {
  await utimes(join(images, "jobs", id), 1, 1);
}

describe("the files of jobs", () => {
  it("stay when the image store is full, and when the time of its images is over", async () => {
    const images = await temporaryFolder();
    const folder = await createJobFolder(images);
    await (await folder.of(one).open(idOf("1")))(fileName, bytes);
    await utimes(join(images, "jobs", idOf("1"), fileName), 1, 1);
    const image = (fill: number) => ({ bytes: Buffer.alloc(100, fill), format: "png", width: 1, height: 1 }) as const;
    const store = await createDirectoryStore({ directory: images, maxBytes: 100, maxAgeMs: 60_000 });
    const first = await store.put(image(1));
    await store.put(image(2));
    assert.equal(await store.get(first), undefined, "the store is full");
    assert.deepEqual(Buffer.from((await folder.get(idOf("1"), fileName)) ?? []), bytes);
    assert.equal(await store.get(fileName), undefined, "it is no image of the store");
  });
});

describe("the files of deleted jobs", () => {
  it("are deleted by the database whose job it was, and by no other that uses the same image folder", async () => {
    const images = await temporaryFolder();
    const folder = await createJobFolder(images);
    await (await folder.of(one).open(idOf("1")))(fileName, bytes);
    await (await folder.of(other).open(idOf("2")))(fileName, bytes);
    for (const id of [idOf("1"), idOf("2")]) {
      await age(images, id);
    }
    await deleteLeftovers(folder.of(one), none, Date.now());
    assert.deepEqual(await readdir(join(images, "jobs")), [idOf("2")]);
    assert.deepEqual(Buffer.from((await folder.get(idOf("2"), fileName)) ?? []), bytes);
    await deleteLeftovers(folder.of(other), none, Date.now());
    assert.deepEqual(await readdir(join(images, "jobs")), []);
  });

  it("stay while their job exists, and while they may be of a job that is being created", async () => {
    const images = await temporaryFolder();
    const folder = await createJobFolder(images);
    for (const id of ["1", "2", "3"].map(idOf)) {
      await (await folder.of(one).open(id))(fileName, bytes);
    }
    await age(images, idOf("1"));
    await age(images, idOf("2"));
    const asked: string[] = [];
    const store = {
      async existing(ids: readonly string[]) {
        asked.push(...ids);
        return new Set([idOf("2")]);
      },
    };
    await deleteLeftovers(folder.of(one), store, Date.now() - 60_000);
    assert.deepEqual(asked.toSorted(), [idOf("1"), idOf("2")]);
    assert.deepEqual((await readdir(join(images, "jobs"))).toSorted(), [idOf("2"), idOf("3")]);
  });

  it("stay and can be read where nothing says whose they are", async () => {
    const images = await temporaryFolder();
    const folder = await createJobFolder(images);
    await mkdir(join(images, "jobs", idOf("1")));
    await writeFile(join(images, "jobs", idOf("1"), fileName), bytes);
    await age(images, idOf("1"));
    await deleteLeftovers(folder.of(one), none, Date.now());
    assert.deepEqual(Buffer.from((await folder.get(idOf("1"), fileName)) ?? []), bytes);
  });
});
