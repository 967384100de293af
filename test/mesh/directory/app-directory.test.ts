import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createAppDirectory } from "../../../src/mesh/directory/app-directory.js";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";

const target = "127.0.0.1:50052";

suite("lookUp", () => {
  const directory = createAppDirectory({
    apps: { "local/worker": { target }, "acme/worker": { target: "dns:///worker:50052" } },
    defaultApp: "local/worker",
  });

  test("lookUp finds an app by id", () => {
    assert.deepEqual(directory.lookUp("acme/worker"), {
      appId: "acme/worker",
      target: "dns:///worker:50052",
      policies: readPolicies(),
      security: undefined,
    });
  });

  test("lookUp returns the default app for the empty id", () => {
    assert.equal(directory.lookUp("").appId, "local/worker");
  });

  test("lookUp rejects the empty id when no default is set", () => {
    const { lookUp } = createAppDirectory({ apps: { "local/worker": { target } } });
    assert.throws(
      () => lookUp(""),
      new ConnectError("no default app is set; the apps are local/worker", Code.InvalidArgument),
    );
  });

  test("lookUp error lists the known ids and not the requested one", () => {
    for (const unknown of ["evil.example/worker", "__proto__", "constructor", "toString"]) {
      assert.throws(
        () => directory.lookUp(unknown),
        new ConnectError("no such app; the apps are acme/worker, local/worker", Code.NotFound),
      );
    }
  });
});

test("lookUp error in a directory of 1,000 apps lists ten and counts the others", () => {
  const ids = Array.from({ length: 1_000 }, (_, i) => `a/${String(i).padStart(3, "0")}`);
  const { lookUp } = createAppDirectory({ apps: Object.fromEntries(ids.map((id) => [id, { target }])) });
  const listed = `${ids.slice(0, 10).join(", ")} and 990 more`;
  assert.throws(() => lookUp("b/c"), new ConnectError(`no such app; the apps are ${listed}`, Code.NotFound));
  assert.throws(
    () => lookUp(""),
    new ConnectError(`no default app is set; the apps are ${listed}`, Code.InvalidArgument),
  );
});

suite("createAppDirectory", () => {
  const targets = [
    "localhost:1",
    "127.0.0.1:65535",
    "[::1]:50052",
    "dns:host:50052",
    "dns:///host:50052",
    "dns://8.8.8.8/host:50052",
    "ipv4:10.0.0.1:1,10.0.0.2:2",
    "ipv6:[::1]:50052",
    "unix:/tmp/worker.sock",
    "unix:worker.sock",
  ];
  for (const good of targets) {
    test(`createAppDirectory accepts the target ${good}`, () => {
      assert.equal(createAppDirectory({ apps: { "a/b": { target: good } } }).lookUp("a/b").target, good);
    });
  }

  for (const bad of [
    "",
    "host",
    "host:",
    "host:0",
    "host:65536",
    "http://host:80",
    "dns:///host",
    "ipv4:",
    "unix:",
    " host:1",
    "host:1 ",
  ]) {
    test(`createAppDirectory rejects the target "${bad}" with the app's id`, () => {
      assert.throws(
        () => createAppDirectory({ apps: { "a/b": { target: bad } } }),
        (error: Error) => {
          return error.message.includes(`"${bad}"`) && error.message.includes('"a/b"');
        },
      );
    });
  }

  test("createAppDirectory rejects an xds target as not supported", () => {
    const apps = { "a/b": { target: "xds:///worker" } };
    assert.throws(() => createAppDirectory({ apps }), /"xds:\/\/\/worker" of app "a\/b": xds is not supported/);
  });

  test("createAppDirectory accepts an app's policies, and rejects an invalid one with the app's id", () => {
    const apps = { "a/b": { target, policies: { retry: { maxAttempts: 1 } } } };
    assert.equal(createAppDirectory({ apps }).lookUp("a/b").policies.retry.maxAttempts, 1);
    assert.throws(
      () => createAppDirectory({ apps: { "a/b": { target, policies: { retry: { maxAttempts: 6 } } } } }),
      /app "a\/b": policies\.retry\.maxAttempts: /,
    );
  });

  test("createAppDirectory rejects an id that is not owner/name", () => {
    for (const id of ["", "worker", "/worker", "a/", "a/b/c", "host:50052/x", "-a/b", "a b/c"]) {
      assert.throws(() => createAppDirectory({ apps: { [id]: { target } } }), /is not of the form owner\/name/);
    }
  });

  test("createAppDirectory rejects an unknown default and an empty directory", () => {
    assert.throws(
      () => createAppDirectory({ apps: { "a/b": { target } }, defaultApp: "c/d" }),
      /"c\/d" is not in the directory/,
    );
    assert.throws(() => createAppDirectory({ apps: {} }), /at least one app/);
  });
});
