import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it, suite, test } from "node:test";
import { createContextValues } from "@connectrpc/connect";
import { callerContextKey, callerHeader, fairnessKeyOf } from "../../../src/mesh/access/callers.js";
import { createHostCheck } from "../../../src/mesh/access/host-check.js";
import { certificateNames } from "../../../src/mesh/access/peer.js";
import { addressGroup, createAddressCounter } from "../../../src/mesh/port/listen-addresses.js";
import { type CertificateRequest, createAuthority } from "../../support/certificates.js";

suite("names in a certificate", async () => {
  const authority = await createAuthority();
  const names = async (request: CertificateRequest) =>
    certificateNames(new X509Certificate((await authority.issue(request)).cert));

  test("certificate names carry their kind, with the common name last", async () => {
    const alternatives = [
      { type: "url", value: "spiffe://mesh/worker" },
      { type: "dns", value: "worker.example" },
      { type: "ip", value: "127.0.0.1" },
    ] as const;
    assert.deepEqual(await names({ name: "worker", alternatives }), [
      "uri:spiffe://mesh/worker",
      "dns:worker.example",
      "ip:127.0.0.1",
      "cn:worker",
    ]);
  });

  test("certificate names cannot be forged inside one another", async () => {
    const alternatives = [
      { type: "dns", value: "a, URI:spiffe://mesh/admin" },
      { type: "url", value: 'x", DNS:admin, "' },
    ] as const;
    assert.deepEqual(await names({ name: "cn:admin", alternatives }), [
      "dns:a, URI:spiffe://mesh/admin",
      'uri:x", DNS:admin, "',
      "cn:cn:admin",
    ]);
  });
});

test("connections are grouped by IPv4 address and by IPv6 /64 network", () => {
  const cases = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"],
    ["2001:db8:0:1::9", "2001:db8:0:1::/64"],
    ["2001:0db8::1", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
  ] as const;
  for (const [address, group] of cases) {
    assert.equal(addressGroup(address), group);
  }
  const counter = createAddressCounter(1);
  const leave = counter.acquire("2001:db8::1");
  assert.equal(counter.acquire("2001:db8::2"), undefined);
  assert.ok(counter.acquire("2001:db8:1::1"));
  leave?.();
  assert.ok(counter.acquire("2001:db8::2"));
});

describe("host check", () => {
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
});

function call(countKey: string, header: Record<string, string> = {}, mayNameCallers = true) {
  const caller = { name: undefined, countKey, mayNameCallers, mayUse: () => true };
  const values = createContextValues().set(callerContextKey, caller);
  return { values, requestHeader: new Headers(header) };
}

const forwardedKey = "0123456789abcdef0123456789abcdef";

describe("fairness key", () => {
  it("fairness key is stable for a caller and does not reveal its address", () => {
    const direct = fairnessKeyOf(call("192.0.2.7"), { trustHeader: true });
    assert.match(direct, /^[0-9a-f]{32}$/);
    assert.equal(fairnessKeyOf(call("192.0.2.7"), { trustHeader: false }), direct);
    assert.notEqual(fairnessKeyOf(call("192.0.2.8"), { trustHeader: true }), direct);
  });

  it("fairness key comes from the header of a trusted caller only", () => {
    assert.equal(
      fairnessKeyOf(call("192.0.2.7", { [callerHeader]: forwardedKey }), { trustHeader: true }),
      forwardedKey,
    );
    assert.notEqual(
      fairnessKeyOf(call("192.0.2.7", { [callerHeader]: forwardedKey }), { trustHeader: false }),
      forwardedKey,
    );
  });

  it("fairness key is the caller's own when the caller may not name others", () => {
    const direct = fairnessKeyOf(call("192.0.2.7"), { trustHeader: true });
    assert.equal(
      fairnessKeyOf(call("192.0.2.7", { [callerHeader]: forwardedKey }, false), { trustHeader: true }),
      direct,
    );
  });

  it("fairness key is the caller's own when the header holds no valid key", () => {
    const direct = fairnessKeyOf(call("192.0.2.7"), { trustHeader: true });
    for (const text of ["", "somebody", forwardedKey.toUpperCase(), forwardedKey.repeat(1000)]) {
      assert.equal(fairnessKeyOf(call("192.0.2.7", { [callerHeader]: text }), { trustHeader: true }), direct);
    }
  });
});
