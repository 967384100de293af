import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { JobFiles } from "../../src/jobs/job-files.js";
import { shareReads } from "../../src/jobs/shared-reads.js";

/** Files of which only these are used. */
function filesWith(used: Partial<JobFiles>): JobFiles {
  const unused = () => {
    throw new Error("not expected");
  };
  return { open: unused, get: unused, delete: unused, unchangedSince: unused, urlOf: unused, ...used };
}

describe("the image of a job that ends", () => {
  const bytes = new Uint8Array([1, 2, 3]);

  it("is read once for a thousand watchers", async () => {
    const reads: string[] = [];
    const { get } = shareReads(
      filesWith({
        async get(id, fileName) {
          reads.push(`${id}/${fileName}`);
          return bytes;
        },
      }),
    );
    const found = await Promise.all(Array.from({ length: 1_000 }, () => get("a", "1.png")));
    assert.ok(found.every((each) => each === bytes));
    assert.equal(await get("a", "1.png"), bytes);
    assert.equal(await get("b", "1.png"), bytes);
    assert.deepEqual(reads, ["a/1.png", "b/1.png"]);
  });

  it("is not read where it was stored just before, until its job is deleted", async () => {
    const written: string[] = [];
    const deleted: string[] = [];
    const files = shareReads(
      filesWith({
        open: async (id) => async (fileName) => void written.push(`${id}/${fileName}`),
        get: async () => undefined,
        delete: async (id) => void deleted.push(id),
      }),
    );
    const write = await files.open("a");
    await write("1.png", bytes);
    assert.deepEqual(written, ["a/1.png"]);
    assert.equal(await files.get("a", "1.png"), bytes);
    await files.delete("a");
    assert.deepEqual(deleted, ["a"]);
    assert.equal(await files.get("a", "1.png"), undefined);
  });

  it("is not kept if it could not be stored", async () => {
    const files = shareReads(
      filesWith({
        open: async () => () => Promise.reject(new Error("ENOSPC")),
        get: async () => undefined,
      }),
    );
    const write = await files.open("a");
    await assert.rejects(write("1.png", bytes), /ENOSPC/);
    assert.equal(await files.get("a", "1.png"), undefined);
  });

  it("is read again if it was missing, or if the read failed", async () => {
    let answer: () => Promise<Uint8Array | undefined> = async () => undefined;
    const { get } = shareReads(filesWith({ get: () => answer() }));
    assert.equal(await get("a", "1.png"), undefined);
    answer = () => Promise.reject(new Error("EIO"));
    await assert.rejects(get("a", "1.png"), /EIO/);
    answer = async () => bytes;
    assert.equal(await get("a", "1.png"), bytes);
  });

  it("takes a bounded amount of memory", async () => {
    const reads: string[] = [];
    const large = new Uint8Array(40 * 1024 * 1024);
    const { get } = shareReads(
      filesWith({
        async get(id) {
          reads.push(id);
          return large;
        },
      }),
    );
    await get("a", "1.png");
    await get("b", "1.png");
    await get("b", "1.png");
    await get("a", "1.png");
    assert.deepEqual(reads, ["a", "b", "a"], "only one of them fits");
  });
});
