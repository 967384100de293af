import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createLeases, defaultMaxLeases, type Lease, type LeasesOptions } from "../../src/registry/leases.js";

const lease = (port: number, appId = "acme/worker", version = "1"): Lease => ({
  appId,
  host: "10.0.0.7",
  port,
  version,
});

function errorOf(work: () => unknown): ConnectError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof ConnectError);
    return error;
  }
  return assert.fail("it succeeded");
}

/** Leases with a clock that stands still, and what they report. */
function start(t: TestContext, options: LeasesOptions = {}) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const leases = createLeases({ leaseMs: 1_000, knownMs: 5_000, ...options });
  t.after(() => leases.close());
  const events: string[] = [];
  leases.onLease(({ kind, lease: { port } }) => void events.push(`${kind} ${port}`));
  const portsOf = (appId = "acme/worker") => leases.replicasOf(appId).current.map(({ port }) => port);
  let expired = 0;
  const register = (each: Lease, countKey = "caller a") =>
    leases.register(each, { countKey, onExpired: () => void expired++ });
  return {
    leases,
    events,
    portsOf,
    register,
    /** Moves on by tenths of a lease. */
    tick: (tenths: number) => t.mock.timers.tick(tenths * 100),
    get expired() {
      return expired;
    },
  };
}

suite("leases", () => {
  test("lease lasts while it is renewed, and expires once when it is not", (t) => {
    const { leases, register, tick, portsOf, events } = start(t);
    const held = register(lease(1));
    assert.deepEqual([leases.appIds, portsOf()], [["acme/worker"], [1]]);
    for (let renewals = 0; renewals < 5; renewals++) {
      tick(9);
      held.renew("1");
    }
    assert.deepEqual(portsOf(), [1]);
    tick(10);
    assert.deepEqual(portsOf(), []);
    held.renew("1");
    held.end();
    tick(10);
    assert.deepEqual(portsOf(), []);
    assert.deepEqual(events, ["registered 1", ...Array(5).fill("renewed 1"), "expired 1"]);
  });

  test("holder of a lease hears of its expiry", (t) => {
    const table = start(t);
    table.register(lease(1));
    table.tick(10);
    assert.equal(table.expired, 1);
  });

  test("process that stood still ends no lease whose renewal has arrived meanwhile", (t) => {
    const { leases, register, portsOf } = start(t);
    const held = register(lease(1));
    // Its timer fires once after the pause, and not as often as it would have.
    t.mock.timers.tick(100);
    held.renew("1");
    assert.deepEqual(portsOf(), [1]);
    assert.equal(leases.own.length, 1);
  });

  test("lease that is ended goes at once; one whose stream broke goes when its time is over, or is taken over", (t) => {
    const { register, tick, portsOf, events } = start(t);
    const ended = register(lease(1));
    const broken = register(lease(2));
    const replaced = register(lease(3));
    ended.end();
    broken.abandon();
    replaced.abandon();
    assert.deepEqual(portsOf(), [2, 3]);
    tick(5);
    const next = register(lease(3));
    // The old stream's end says nothing about the new one.
    replaced.end();
    replaced.renew("9");
    tick(5);
    assert.deepEqual(portsOf(), [3]);
    next.end();
    assert.deepEqual(portsOf(), []);
    assert.deepEqual(
      events.filter((event) => event.endsWith("3")),
      ["registered 3", "registered 3", "ended 3"],
    );
  });

  test("second open stream for an address is ALREADY_EXISTS and leaves the first alone; another app may have it", (t) => {
    const { register, portsOf } = start(t);
    register(lease(1));
    const error = errorOf(() => register(lease(1)));
    assert.equal(error.code, Code.AlreadyExists);
    assert.match(
      error.rawMessage,
      /^10\.0\.0\.7:1 is registered for this app by another connection; .*port of its own$/,
    );
    register(lease(1, "acme/other"));
    assert.deepEqual([portsOf(), portsOf("acme/other")], [[1], [1]]);
  });

  test("app without leases stays known for a while, with one list of replicas", (t) => {
    const { leases, register, tick } = start(t);
    const list = () => leases.replicasOf("acme/worker");
    const known: (readonly string[])[] = [];
    leases.onChange(() => void known.push(leases.appIds));
    const held = register(lease(1));
    const before = list();
    held.end();
    tick(49);
    assert.deepEqual(leases.appIds, ["acme/worker"]);
    assert.equal(list(), before);
    tick(1);
    assert.deepEqual(leases.appIds, []);
    assert.deepEqual(known, [["acme/worker"], []]);
  });

  test("configured app without leases keeps its list for its connection", (t) => {
    const { leases, register, tick, portsOf } = start(t);
    const list = leases.replicasOf("acme/worker");
    const changes: number[] = [];
    const forget = list.onChange(() => void changes.push(list.current.length));
    tick(100);
    const held = register(lease(1));
    assert.equal(leases.replicasOf("acme/worker"), list);
    held.end();
    forget();
    register(lease(2));
    assert.deepEqual(changes, [1, 0]);
    assert.deepEqual(portsOf(), [2]);
  });

  test("renewals are no change, unless they change the version", (t) => {
    const { leases, register } = start(t);
    const list = leases.replicasOf("acme/worker");
    const versions: string[] = [];
    const held = register(lease(1));
    list.onChange(() => void versions.push(list.current.map(({ version }) => version).join()));
    held.renew("1");
    held.renew("2");
    held.renew("2");
    assert.deepEqual(versions, ["2"]);
  });

  test("leases are bounded, in all and of one caller, and a renewal needs no room", (t) => {
    const { leases, register } = start(t, { maxPerCaller: 1_000 });
    const held = Array.from({ length: defaultMaxLeases }, (_, at) =>
      register(lease(1 + (at % 1_000), `acme/app-${Math.floor(at / 1_000)}`), `caller ${Math.floor(at / 1_000)}`),
    );
    const full = errorOf(() => register(lease(1, "acme/more"), "caller z"));
    assert.equal(full.code, Code.ResourceExhausted);
    assert.equal(full.rawMessage, "the registry has 10000 leases, which is its limit");
    held[0]?.renew("2");
    held[1]?.end();
    const ofCaller = errorOf(() => register(lease(2_000, "acme/more"), "caller 5"));
    assert.equal(ofCaller.rawMessage, "the registry has 1000 leases of this caller, which is its limit");
    register(lease(2_000, "acme/more"), "caller z");
    assert.equal(leases.own.length, defaultMaxLeases);
  });

  test("caller with ever new apps makes its oldest ones forgotten, and takes no room from others", (t) => {
    const { leases, register, tick } = start(t, { maxPerCaller: 3, maxLeases: 5 });
    register(lease(1, "acme/other"), "caller b").end();
    const held = register(lease(1, "acme/held"));
    for (let i = 0; i < 100; i++) {
      register(lease(2, `acme/app-${i}`)).end();
      tick(1);
      held.renew("1");
    }
    assert.deepEqual(leases.appIds, ["acme/held", "acme/app-97", "acme/app-98", "acme/app-99"]);
    register(lease(1, "acme/other"), "caller b");
    assert.ok(leases.appIds.includes("acme/other"));
  });

  test("leases of other pipelines stand beside those of this one, and go when they are shared no more", (t) => {
    const { leases, register, portsOf, tick } = start(t);
    const held = register(lease(1));
    leases.setShared([lease(1), lease(2), lease(3, "acme/far")], ["acme/past"]);
    assert.deepEqual([...leases.appIds].sort(), ["acme/far", "acme/past", "acme/worker"]);
    assert.deepEqual([portsOf().sort(), portsOf("acme/far"), portsOf("acme/past")], [[1, 2], [3], []]);
    // No clock of this process ends them.
    tick(9);
    held.renew("1");
    tick(9);
    held.end();
    assert.deepEqual(portsOf().sort(), [1, 2]);
    leases.setShared([lease(2)]);
    assert.deepEqual([portsOf(), portsOf("acme/far")], [[2], []]);
  });
});
