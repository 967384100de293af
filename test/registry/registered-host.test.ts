import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { loopbackRanges, readAddressRanges } from "../../src/registry/address-ranges.js";
import { registeredHost } from "../../src/registry/registered-host.js";

const anonymous = (address: string | undefined) => ({ name: undefined, address });
const known = (address: string | undefined) => ({ name: "workers", address });
const privateRanges = readAddressRanges(["10.0.0.0/8", "fd00::/8", "192.0.2.9"]);

function codeOf(work: () => unknown): string {
  try {
    return String(work());
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error));
    return Code[error.code];
  }
}

suite("address of a worker that registers", () => {
  const cases: readonly (readonly [what: string, ...Parameters<typeof hostOf>, expected: string])[] = [
    ["anonymous on loopback", anonymous("127.0.0.1"), null, loopbackRanges, "127.0.0.1"],
    ["anonymous on IPv6's loopback", anonymous("::1"), null, loopbackRanges, "::1"],
    ["anonymous on loopback, mapped", anonymous("::ffff:127.0.0.1"), null, loopbackRanges, "127.0.0.1"],
    ["anonymous elsewhere", anonymous("10.1.2.3"), null, loopbackRanges, "PermissionDenied"],
    ["anonymous elsewhere, mapped", anonymous("::ffff:10.1.2.3"), null, loopbackRanges, "PermissionDenied"],
    ["anonymous in a listed range", anonymous("10.1.2.3"), null, privateRanges, "10.1.2.3"],
    ["anonymous in a listed IPv6 range", anonymous("fd00:0:0::7"), null, privateRanges, "fd00::7"],
    ["anonymous at a listed address", anonymous("192.0.2.9"), null, privateRanges, "192.0.2.9"],
    ["anonymous beside a listed address", anonymous("192.0.2.10"), null, privateRanges, "PermissionDenied"],
    ["anonymous on loopback that is not listed", anonymous("127.0.0.1"), null, privateRanges, "PermissionDenied"],
    ["authenticated anywhere", known("198.51.100.4"), null, loopbackRanges, "198.51.100.4"],
    ["authenticated anywhere, mapped", known("::ffff:198.51.100.4"), null, loopbackRanges, "198.51.100.4"],
    ["authenticated on link-local", known("fe80::1"), null, loopbackRanges, "FailedPrecondition"],
    ["naming its own link-local address", known("fe80::1%eth0"), "fe80::1", loopbackRanges, "FailedPrecondition"],
    ["authenticated without a connection", known(undefined), null, loopbackRanges, "FailedPrecondition"],
    ["naming an address in a listed range", known("198.51.100.4"), "10.0.0.7", privateRanges, "10.0.0.7"],
    ["naming a mapped address in a listed range", known("198.51.100.4"), "::ffff:10.0.0.7", privateRanges, "10.0.0.7"],
    ["naming its own address", known("198.51.100.4"), "198.51.100.4", loopbackRanges, "198.51.100.4"],
    ["naming another address", known("198.51.100.4"), "10.0.0.7", loopbackRanges, "PermissionDenied"],
    ["naming the pipeline's loopback", known("198.51.100.4"), "127.0.0.1", loopbackRanges, "PermissionDenied"],
    ["naming another loopback on loopback", known("127.0.0.1"), "127.0.0.2", loopbackRanges, "127.0.0.2"],
    ["naming a host", known("198.51.100.4"), "worker.internal", privateRanges, "InvalidArgument"],
    ["naming an address with a port", known("198.51.100.4"), "10.0.0.7:1", privateRanges, "InvalidArgument"],
    ["naming two addresses", known("198.51.100.4"), "10.0.0.7, 10.0.0.8", privateRanges, "InvalidArgument"],
    ["naming a number", known("198.51.100.4"), "167772167", privateRanges, "InvalidArgument"],
    ["naming nothing", known("198.51.100.4"), "", privateRanges, "InvalidArgument"],
    ["anonymous outside, naming one inside", anonymous("198.51.100.4"), "10.0.0.7", privateRanges, "PermissionDenied"],
  ];
  const hostOf = (
    caller: { readonly name: string | undefined; readonly address: string | undefined },
    named: string | null,
    allowed: typeof loopbackRanges,
  ) => registeredHost({ caller, named, allowed });
  for (const [what, caller, named, allowed, expected] of cases) {
    test(`worker ${what} gets ${expected}`, () => {
      assert.equal(
        codeOf(() => hostOf(caller, named, allowed)),
        expected,
      );
    });
  }

  test("worker may not name an address that is no worker's, whatever the listed ranges", () => {
    const everything = readAddressRanges(["0.0.0.0/0", "::/0"]);
    for (const named of [
      "0.0.0.0",
      "::",
      "169.254.169.254",
      "fe80::1",
      "224.0.0.1",
      "ff02::1",
      "255.255.255.255",
      "127.0.0.1",
      "::1",
      "::ffff:127.0.0.1",
    ]) {
      assert.equal(
        codeOf(() => hostOf(known("198.51.100.4"), named, everything)),
        "PermissionDenied",
        named,
      );
    }
  });

  test("rejected worker learns its address, the ranges and the pipeline's flags", () => {
    assert.throws(
      () => hostOf(anonymous("10.1.2.3"), null, loopbackRanges),
      /from 127\.0\.0\.0\/8, ::1 only, and this connection comes from 10\.1\.2\.3; on the pipeline, --callers .*--register-allow/,
    );
  });
});

suite("address ranges", () => {
  for (const text of [
    "",
    "10.0.0.0/33",
    "10.0.0/8",
    "300.0.0.0/8",
    "fd00::/129",
    "10",
    "0x7f.1",
    "localhost",
    "10.0.0.1:80",
    "10.0.0.0/8/8",
  ]) {
    test(`address range "${text}" is rejected by name`, () => {
      assert.throws(() => readAddressRanges([text]), new RegExp(`^Error: "${text}" is no range`));
    });
  }
});
