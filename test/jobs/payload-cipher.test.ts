import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { it } from "node:test";
import { checkKeys, createPayloadCipher, PayloadError, sealedHeadBytes } from "../../src/jobs/payload-cipher.js";

const [older, newer, other] = [randomBytes(32), randomBytes(32), randomBytes(32)];
const text = Buffer.from("a secret wish");
const opened = (bytes: Uint8Array) => Buffer.from(bytes).toString();

it("the first key seals, and all keys open", () => {
  const before = createPayloadCipher([older]);
  const after = createPayloadCipher([newer, older]);
  assert.equal(opened(after.open(before.seal(text, "1 work"), "1 work")), "a secret wish");
  assert.throws(() => before.open(after.seal(text, "1 work"), "1 work"), PayloadError);
  assert.ok(before.encrypts);
});

it("sealed bytes differ each time, and have neither text nor key", () => {
  const cipher = createPayloadCipher([older]);
  const [one, another] = [cipher.seal(text, "1 work"), cipher.seal(text, "1 work")];
  assert.notDeepEqual(one, another);
  assert.ok(!Buffer.from(one).includes("secret"));
  assert.ok(!Buffer.from(one).includes(older.subarray(0, 8)));
});

it("sealed bytes open at no other place, and not after any change of a byte", () => {
  const cipher = createPayloadCipher([older]);
  const sealed = cipher.seal(text, "1 work");
  assert.throws(() => cipher.open(sealed, "2 work"), /belongs to another row/);
  for (let at = 0; at < sealed.length; at++) {
    const changed = Uint8Array.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 2;
    assert.throws(() => cipher.open(changed, "1 work"), PayloadError, `byte ${at}`);
  }
  for (let length = 0; length < sealed.length; length++) {
    assert.throws(() => cipher.open(sealed.subarray(0, length), "1 work"), PayloadError, `${length} bytes`);
  }
});

it("without keys bytes rest as they are, and open also once there is a key", () => {
  const plain = createPayloadCipher([]);
  const sealed = plain.seal(text, "1 work");
  assert.ok(!plain.encrypts);
  assert.ok(Buffer.from(sealed).includes("secret"));
  assert.equal(opened(createPayloadCipher([older]).open(sealed, "1 work")), "a secret wish");
});

it("keys that do not fit the stored heads are an error that names the flag", () => {
  const head = (key: Uint8Array) => createPayloadCipher([key]).seal(text, "1 work").subarray(0, sealedHeadBytes);
  checkKeys(createPayloadCipher([newer, older]), [head(older), head(newer)]);
  assert.throws(() => checkKeys(createPayloadCipher([newer, other]), [head(newer), head(older)]), /--jobs-key-file/);
  assert.throws(() => checkKeys(createPayloadCipher([]), [head(older)]), /--jobs-key-file/);
});

it("a request is known again by its fingerprint, also after a key was put before its own", () => {
  const known = (now: readonly Uint8Array[], then: readonly Uint8Array[], request = text) => {
    const [stored] = createPayloadCipher(then).fingerprints(text);
    return createPayloadCipher(now)
      .fingerprints(request)
      .some((print) => Buffer.compare(print, stored) === 0);
  };
  assert.ok(known([older], [older]));
  assert.ok(known([newer, older], [older]));
  assert.ok(known([older], []));
  assert.ok(!known([newer], [older]));
  assert.ok(!known([older], [older], Buffer.from("another wish")));
});
