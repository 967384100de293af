import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageStoreError } from "../../src/image/image-store-error.js";
import { s3Error, setCredentials, startS3 } from "./s3-server.js";

const object = { bytes: Buffer.from("image"), contentType: "image/png", cacheControl: "no-store" };

test("bucket sends no version of the SDK, Node or the system, and no checksum that other stores reject", async (t) => {
  setCredentials(t);
  const { open, requests } = await startS3(t, (_request, response) => response.end());
  await (await open({ prefix: "some/prefix/" })).put("a.png", object);
  const [request] = requests;
  assert.equal(request?.url?.split("?")[0], "/images/some/prefix/a.png");
  const names = Object.keys(request.headers).filter((name) => !["connection", "content-length", "host"].includes(name));
  assert.deepEqual(names.toSorted(), [
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "cache-control",
    "content-type",
    "x-amz-content-sha256",
    "x-amz-date",
  ]);
});

test("bucket's errors name what is wrong and what to do, without a secret", async (t) => {
  setCredentials(t);
  const cases: [status: number, code: string, message: RegExp][] = [
    [
      404,
      "NoSuchBucket",
      /^s3:\/\/images at http:\S+: there is no bucket images; create it, or correct --image-store$/,
    ],
    [403, "AccessDenied", /may not do this; allow s3:ListBucket, GetObject, PutObject and DeleteObject$/],
    [403, "InvalidAccessKeyId", /does not know the access key; correct AWS_ACCESS_KEY_ID$/],
    [403, "SignatureDoesNotMatch", /rejects the signature; correct AWS_SECRET_ACCESS_KEY/],
    [400, "AuthorizationHeaderMalformed", /in another region; set AWS_REGION to it$/],
    [301, "PermanentRedirect", /in another region; set AWS_REGION to it$/],
    [400, "ExpiredToken", /session token of the credentials has expired; renew it$/],
    [418, "SomethingElse", /: SomethingElse \(HTTP 418\)$/],
  ];
  for (const [status, code, message] of cases) {
    const { open } = await startS3(t, s3Error(status, code));
    const bucket = await open();
    await assert.rejects(bucket.check(), (error) => {
      assert.ok(error instanceof ImageStoreError, code);
      assert.equal(error.reason, "unavailable");
      assert.match(error.message, message);
      assert.ok(!error.message.includes("secret"));
      return true;
    });
  }
});

test("a full store and one that is away are different errors", async (t) => {
  setCredentials(t);
  const full = await startS3(t, s3Error(507, "InsufficientStorage"));
  await assert.rejects((await full.open()).put("a", object), {
    reason: "full",
    message: /no space is left in s3:\/\/images/,
  });
  const away = await (await startS3(t)).open({ endpoint: "http://127.0.0.1:9" });
  await assert.rejects(away.put("a", object), { reason: "unavailable", message: /cannot be reached \(ECONNREFUSED\)/ });
});

test("store that does not answer is given up after the time limit", async (t) => {
  setCredentials(t);
  const { open, requests } = await startS3(t, () => {});
  const bucket = await open({ requestMs: 50 });
  await assert.rejects(bucket.get("a"), { reason: "unavailable", message: /cannot be reached \(ETIMEDOUT\)/ });
  assert.equal(requests.length, 3);
});

test("overloaded store is tried again", async (t) => {
  setCredentials(t);
  const { open, requests } = await startS3(t, s3Error(503, "SlowDown"), (_request, response) => response.end("image"));
  assert.equal(Buffer.from((await (await open()).get("a")) ?? []).toString(), "image");
  assert.equal(requests.length, 2);
});

test("signatures follow the store's clock if this machine's differs", async (t) => {
  setCredentials(t);
  const theirs = new Date(Date.now() + 3_600_000).toUTCString();
  const { open, requests } = await startS3(
    t,
    s3Error(403, "RequestTimeTooSkewed", { date: theirs }),
    (_request, response) => response.end("image"),
  );
  assert.ok((await (await open()).get("a")) !== undefined);
  const hourOf = (index: number) => String(requests[index]?.headers["x-amz-date"]).slice(0, 11);
  assert.notEqual(hourOf(0), hourOf(1));
});

test("missing object is undefined, and a key that exists is not written again", async (t) => {
  setCredentials(t);
  const missing = await (await startS3(t, s3Error(404, "NoSuchKey"))).open();
  assert.equal(await missing.get("a"), undefined);
  for (const status of [409, 412]) {
    const bucket = await (await startS3(t, s3Error(status, "PreconditionFailed"))).open();
    assert.equal(await bucket.putNew("a", object), false);
  }
});

test("URLs are signed for the public endpoint and expire", async (t) => {
  setCredentials(t);
  const { open } = await startS3(t);
  const bucket = await open({ publicEndpoint: "https://images.example.com", prefix: "p/" });
  const url = new URL(await bucket.presign("a.png"));
  assert.equal(`${url.origin}${url.pathname}`, "https://images.example.com/images/p/a.png");
  assert.equal(url.searchParams.get("X-Amz-Expires"), "60");
  assert.match(url.searchParams.get("X-Amz-Signature") ?? "", /^[0-9a-f]{64}$/);
});
