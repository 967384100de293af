import assert from "node:assert/strict";
import { test } from "node:test";
import { createHostCheck } from "../../../src/mesh/access/host-check.js";

const own = ["localhost", "studio.localhost", "127.0.0.1", "127.9.9.9", "[::1]"];
const foreign = [
  "evil.example",
  "localhost.evil.example",
  "127.0.0.1.evil.example",
  "notlocalhost",
  "10.0.0.1",
  "[::2]",
];

test("open server on loopback accepts loopback host names and its public host name only", () => {
  for (const host of ["127.0.0.1", "::1", "localhost"]) {
    const check = createHostCheck({ host, anyHost: false, publicUrl: "https://studio.example/x" });
    assert.deepEqual([...own, ...foreign, "studio.example"].filter(check), [...own, "studio.example"]);
  }
});

test("server with authentication, or beyond loopback, accepts any host name", () => {
  for (const options of [
    { host: "127.0.0.1", anyHost: true },
    { host: "0.0.0.0", anyHost: false },
    { host: "studio.internal", anyHost: false },
  ]) {
    assert.ok(foreign.every(createHostCheck(options)));
  }
});
