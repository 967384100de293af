import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { EncodedImage } from "../../src/image/image-format.js";
import { imageFileNameOf } from "../../src/image/image-store.js";
import type { Bucket, NewObject } from "../../src/s3/bucket.js";
import { createImageBucket } from "../../src/s3/image-bucket.js";
import { createJobBucket } from "../../src/s3/job-bucket.js";

/** A bucket in memory, on a clock of the test. */
function createBucket() {
  const objects = new Map<string, NewObject & { readonly changedAt: number }>();
  let now = 0;
  const writes: string[] = [];
  const put = async (key: string, object: NewObject) => {
    writes.push(key);
    objects.set(key, { ...object, changedAt: now });
  };
  const bucket: Bucket = {
    put,
    async putNew(key, object) {
      if (objects.has(key)) {
        return false;
      }
      await put(key, object);
      return true;
    },
    get: async (key) => objects.get(key)?.bytes,
    changedAt: async (key) => objects.get(key)?.changedAt,
    delete: async (key) => void objects.delete(key),
    list: async (start) =>
      [...objects].filter(([key]) => key.startsWith(start)).map(([key, { changedAt }]) => ({ key, changedAt })),
    presign: async (key) => `https://bucket/${key}?signed`,
    originOfUrls: async () => "https://bucket",
    check: async () => {},
  };
  return {
    bucket,
    objects,
    writes,
    now: () => now,
    pass(ms: number) {
      now += ms;
    },
  };
}

const image: EncodedImage = { bytes: Buffer.from("pixels"), format: "png", width: 1, height: 1 };
const fileName = imageFileNameOf(image);

suite("images in a bucket", () => {
  test("equal images are one object, written anew once it is old", async () => {
    const { bucket, writes, objects, now, pass } = createBucket();
    const store = createImageBucket(bucket, { renewAfterMs: 1000, now });
    assert.equal(await store.put(image), fileName);
    pass(999);
    await store.put(image);
    assert.deepEqual(writes, [fileName]);
    pass(1);
    await store.put(image);
    assert.deepEqual(writes, [fileName, fileName]);
    assert.equal(objects.get(fileName)?.changedAt, 1000);
    assert.equal(objects.get(fileName)?.contentType, "image/png");
  });

  test("image that a lifecycle deletes between two requests is written anew", async () => {
    const { bucket, objects, now } = createBucket();
    const store = createImageBucket({ ...bucket, putNew: async () => false }, { renewAfterMs: 1000, now });
    await store.put(image);
    assert.ok(objects.has(fileName));
  });

  test("images have signed URLs, and names that are none of the store's have no image", async () => {
    const { bucket, now } = createBucket();
    const store = createImageBucket(bucket, { renewAfterMs: 1000, now });
    await store.put(image);
    assert.equal(await store.urlOf?.(fileName), `https://bucket/${fileName}?signed`);
    assert.deepEqual((await store.get(fileName))?.bytes, image.bytes);
    assert.equal(await store.get("jobs/other"), undefined);
  });
});

suite("images of jobs in a bucket", () => {
  const ids = ["1", "2"].map((digit) => digit.repeat(32));
  const [one = "", two = ""] = ids;

  test("a job's objects are stored, found by its database, and deleted together", async () => {
    const { bucket, objects, pass } = createBucket();
    const folder = createJobBucket(bucket);
    const [files, others] = [folder.of("ours"), folder.of("theirs")];
    const write = await files.open(one);
    await write(fileName, image.bytes);
    await write("0.init", Buffer.from("start"));
    await (await others.open(two))(fileName, image.bytes);
    pass(10);
    assert.deepEqual(await folder.get(one, fileName), image.bytes);
    assert.equal(await files.urlOf(one, fileName, "http://pipeline"), `https://bucket/jobs/${one}/${fileName}?signed`);
    assert.deepEqual(await files.unchangedSince(10), [one]);
    assert.deepEqual(await files.unchangedSince(0), []);
    await files.delete(one);
    assert.deepEqual([...objects.keys()].toSorted(), [`databases/theirs/${two}`, `jobs/${two}/${fileName}`]);
  });
});
