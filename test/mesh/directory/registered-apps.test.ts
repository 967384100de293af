import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code } from "@connectrpc/connect";
import {
  type AppDirectory,
  type AppDirectoryOptions,
  createAppDirectory,
} from "../../../src/mesh/directory/app-directory.js";
import { withRegisteredApps } from "../../../src/mesh/directory/registered-apps.js";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";

/** A directory of configured apps and of registered ones. The test changes both. */
function start(options: AppDirectoryOptions, ...registeredIds: readonly string[]) {
  let current = createAppDirectory(options);
  let appIds = registeredIds;
  const listeners = { configured: [] as (() => void)[], registered: [] as (() => void)[] };
  const configured: AppDirectory = {
    get appIds() {
      return current.appIds;
    },
    get defaultApp() {
      return current.defaultApp;
    },
    lookUp: (appId) => current.lookUp(appId),
    onChange: (listener) => void listeners.configured.push(listener),
  };
  const lists = new Map<string, { readonly current: readonly []; onChange(): () => void }>();
  const directory = withRegisteredApps({
    configured,
    registered: {
      get appIds() {
        return appIds;
      },
      replicasOf(appId) {
        const list = lists.get(appId) ?? { current: [], onChange: () => () => {} };
        lists.set(appId, list);
        return list;
      },
      onChange: (listener) => void listeners.registered.push(listener),
    },
  });
  const notify = (which: keyof typeof listeners) => {
    for (const listener of listeners[which]) {
      listener();
    }
  };
  return {
    directory,
    configure(next: AppDirectoryOptions) {
      current = createAppDirectory(next);
      notify("configured");
    },
    register(...next: readonly string[]) {
      appIds = next;
      notify("registered");
    },
  };
}

const security = { keyFile: "/key.txt" };
const policies = { retry: { maxAttempts: 2 } };
const worker = { target: "127.0.0.1:1", policies, security };

suite("directory of configured and registered apps", () => {
  test("configured app keeps its target, policies and security; a registered one has the defaults", () => {
    const { directory } = start({ apps: { "a/worker": worker } }, "a/worker", "b/worker");
    assert.deepEqual(directory.appIds, ["a/worker", "b/worker"]);
    const { registered: ofConfigured, ...configured } = directory.lookUp("a/worker");
    assert.deepEqual(configured, {
      appId: "a/worker",
      target: "127.0.0.1:1",
      policies: readPolicies(policies),
      security,
    });
    const { registered, ...rest } = directory.lookUp("b/worker");
    assert.deepEqual(rest, { appId: "b/worker", target: "registry:b/worker", policies: readPolicies() });
    assert.ok(registered && ofConfigured && registered !== ofConfigured);
  });

  test("entry of an app is the same before and after its first replica, so that its connection stays", () => {
    const { directory, register, configure } = start({ apps: { "a/worker": worker } });
    const before = directory.lookUp("a/worker");
    register("a/worker");
    assert.deepEqual(directory.lookUp("a/worker"), before);
    configure({ apps: { "a/worker": { ...worker }, "c/worker": {} } });
    assert.deepEqual(directory.lookUp("a/worker"), before);
    assert.equal(directory.lookUp("a/worker").registered, before.registered);
  });

  test("listeners of a change find the new apps", () => {
    const { directory, register, configure } = start({ apps: { "a/worker": worker } });
    const seen: (readonly string[])[] = [];
    directory.onChange(() => void seen.push(directory.appIds));
    register("b/worker");
    configure({ apps: { "c/worker": {} } });
    register();
    assert.deepEqual(seen, [["a/worker", "b/worker"], ["b/worker", "c/worker"], ["c/worker"]]);
  });

  test("default app is the configured one, known before its workers register; an unknown app is NOT_FOUND with all others", () => {
    const { directory } = start({ apps: { "a/worker": {} }, defaultApp: "a/worker" }, "b/worker");
    assert.equal(directory.lookUp("").target, "registry:a/worker");
    assert.throws(() => directory.lookUp("x/worker"), {
      code: Code.NotFound,
      rawMessage: "no such app; the apps are a/worker, b/worker",
    });
    const { directory: without } = start({ apps: { "a/worker": {} } }, "b/worker");
    assert.throws(() => without.lookUp(""), { code: Code.InvalidArgument });
  });
});
