import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  checkWebhookUrl,
  resolveWebhook,
  unreachableHosts,
  WebhookAddressError,
} from "../../src/jobs/webhook-target.js";

const policy = { hosts: ["hooks.example.com", "hooks.example.com:8443", "localhost:9000", "10.0.0.1"] };

describe("the URL of a webhook", () => {
  it("is accepted with https, a listed host and that host's port", () => {
    for (const url of [
      "https://hooks.example.com/done?x=1",
      "https://HOOKS.example.com:443/",
      "https://hooks.example.com:8443/",
    ]) {
      checkWebhookUrl(url, policy);
    }
  });

  const rejected: readonly (readonly [url: string, reason: RegExp])[] = [
    ["http://hooks.example.com/", /webhook_url: .*https/],
    ["ftp://hooks.example.com/", /https/],
    ["hooks.example.com", /https/],
    ["javascript:alert(1)", /https/],
    ["https://", /https/],
    ["https://user:password@hooks.example.com/", /without credentials/],
    ["https://hooks.example.com@evil.example/", /without credentials/],
    ["https://evil.example/", /--webhook-hosts/],
    ["https://hooks.example.com.evil.example/", /--webhook-hosts/],
    ["https://hooks.example.com:444/", /--webhook-hosts/],
    ["https://hooks.example.com./", /--webhook-hosts/],
    ["http://localhost:9000/", /https/],
  ];
  for (const [url, reason] of rejected) {
    it(`is rejected: ${url}`, () => {
      assert.throws(() => checkWebhookUrl(url, policy), { rawMessage: reason, code: 3 });
    });
  }

  it("is rejected while webhooks are off, with the flag that lists hosts", () => {
    assert.throws(() => checkWebhookUrl("https://hooks.example.com/", { hosts: [] }), /--webhook-hosts/);
  });

  it("may be of this machine and http with the flag for tests", () => {
    checkWebhookUrl("http://localhost:9000/", { ...policy, allowsLoopback: true });
    assert.throws(() => checkWebhookUrl("http://hooks.example.com/", { ...policy, allowsLoopback: true }), /https/);
  });
});

describe("the hosts of webhooks", () => {
  it("that can never get one are found: they are not public", () => {
    const hosts = ["hooks.example.com", "10.0.0.1:8443", "[::1]", "127.0.0.1:9000", "localhost", "93.184.215.14"];
    assert.deepEqual(unreachableHosts({ hosts }), ["10.0.0.1:8443", "[::1]", "127.0.0.1:9000", "localhost"]);
    assert.deepEqual(unreachableHosts({ hosts, allowsLoopback: true }), ["10.0.0.1:8443"]);
  });
});

describe("the address of a webhook", () => {
  const inner = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fd00::1]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "0x7f.1",
    "2130706433",
    "017700000001",
  ];
  for (const host of inner) {
    it(`must be public: ${host}`, async () => {
      await assert.rejects(resolveWebhook(new URL(`https://${host}/`), policy), WebhookAddressError);
    });
  }

  it("is checked after the name is resolved", async () => {
    await assert.rejects(
      resolveWebhook(new URL("https://localhost:9000/"), policy),
      /resolves to an address that is not public \(loopback\)/,
    );
  });

  it("is the one that the request uses", async () => {
    assert.deepEqual(await resolveWebhook(new URL("https://93.184.215.14/"), policy), {
      address: "93.184.215.14",
      family: 4,
    });
    assert.deepEqual(await resolveWebhook(new URL("https://[2606:2800:21f::1]/"), policy), {
      address: "2606:2800:21f::1",
      family: 6,
    });
  });

  it("may be of this machine with the flag for tests, but not of a private network", async () => {
    const lax = { ...policy, allowsLoopback: true };
    assert.deepEqual(await resolveWebhook(new URL("http://127.0.0.1:9000/"), lax), { address: "127.0.0.1", family: 4 });
    await assert.rejects(resolveWebhook(new URL("https://10.0.0.1/"), lax), WebhookAddressError);
  });
});
