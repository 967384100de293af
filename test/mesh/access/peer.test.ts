import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { suite, test } from "node:test";
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
  const leave = counter.enter("2001:db8::1");
  assert.equal(counter.enter("2001:db8::2"), undefined);
  assert.ok(counter.enter("2001:db8:1::1"));
  leave?.();
  assert.ok(counter.enter("2001:db8::2"));
});
