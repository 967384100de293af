import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { createCallDemand, type PeerChannel, wantedAfterMs } from "../../src/calls/demand.js";
import { createPeerCalls, forgetMs } from "../../src/scaler/peer-calls.js";

/** A channel between pipelines of one process. A sender gets its own messages too, as from PostgreSQL. */
function createBus() {
  const receivers: ((text: string) => void)[] = [];
  const sent: string[] = [];
  const channel: PeerChannel = {
    open: async (onMessage) => void receivers.push(onMessage),
    async send(text) {
      sent.push(text);
      for (const receive of receivers) {
        receive(text);
      }
    },
  };
  return { channel, sent };
}

/** Timers and clock that the test moves. */
function useTimers(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  let now = 0;
  return {
    now: () => now,
    async pass(ms: number) {
      now += ms;
      t.mock.timers.tick(ms);
      await setImmediate();
    },
  };
}

async function startPipeline(name: string, channel: PeerChannel, now: () => number) {
  const calls = createCallDemand(now);
  const errors: unknown[] = [];
  const peers = createPeerCalls({ channel, calls, origin: name, now, onError: (error) => void errors.push(error) });
  await peers.start();
  return { calls, peers, errors };
}

suite("calls of other pipelines", () => {
  test("a pipeline knows the others' calls within half a second, and never counts its own", async (t) => {
    const { now, pass } = useTimers(t);
    const { channel, sent } = createBus();
    const [one, two, three] = await Promise.all(["1", "2", "3"].map((name) => startPipeline(name, channel, now)));
    assert.ok(one && two && three);
    const changes: string[] = [];
    one.peers.onChange((app) => changes.push(app));
    const ends = [two.calls.begin("a/b"), two.calls.begin("a/b"), three.calls.begin("a/b")];
    one.calls.begin("a/b");
    await pass(500);
    assert.deepEqual(one.peers.of("a/b"), { running: 3, wantedMs: 0 });
    assert.deepEqual(two.peers.of("a/b"), { running: 2, wantedMs: 0 });
    assert.equal(sent.length, 3, "one message a pipeline, however many calls");
    assert.deepEqual(changes, ["a/b", "a/b"]);
    for (const end of ends) {
      end();
    }
    await pass(500);
    assert.deepEqual(one.peers.of("a/b"), { running: 0, wantedMs: wantedAfterMs - 500 });
    assert.deepEqual(one.peers.of("a/other"), { running: 0, wantedMs: 0 });
  });

  test("calls that last are reported again, and those of a pipeline that is gone are forgotten", async (t) => {
    const { now, pass } = useTimers(t);
    const { channel } = createBus();
    const [one, two] = await Promise.all(["1", "2"].map((name) => startPipeline(name, channel, now)));
    assert.ok(one && two);
    two.calls.begin("a/b");
    for (let passed = 0; passed <= 4 * forgetMs; passed += 5_000) {
      await pass(5_000);
      assert.equal(one.peers.of("a/b").running, 1);
    }
    // A pipeline that starts later hears of it too.
    const late = await startPipeline("3", channel, now);
    assert.equal(late.peers.of("a/b").running, 0);
    await pass(5_000);
    assert.equal(late.peers.of("a/b").running, 1);
    const silent = createBus();
    const alone = await startPipeline("4", silent.channel, now);
    await silent.channel.send(JSON.stringify({ from: "killed", app: "a/b", running: 4, wantedMs: 0 }));
    assert.equal(alone.peers.of("a/b").running, 4);
    await pass(forgetMs);
    assert.equal(alone.peers.of("a/b").running, 0);
  });

  test("a pipeline that ends takes its calls back", async (t) => {
    const { now, pass } = useTimers(t);
    const { channel } = createBus();
    const [one, two] = await Promise.all(["1", "2"].map((name) => startPipeline(name, channel, now)));
    assert.ok(one && two);
    const end = two.calls.begin("a/b");
    await pass(500);
    assert.equal(one.peers.of("a/b").running, 1);
    end();
    await two.peers.close();
    assert.equal(one.peers.of("a/b").running, 0);
  });

  test("messages of another form are ignored, and a failure to send is reported and does not stop the next one", async (t) => {
    const { now, pass } = useTimers(t);
    let isAway = true;
    const sent: string[] = [];
    let receive: (text: string) => void = () => {};
    const channel: PeerChannel = {
      open: async (onMessage) => {
        receive = onMessage;
      },
      send: async (text) => (isAway ? Promise.reject(new Error("away")) : void sent.push(text)),
    };
    const { calls, peers, errors } = await startPipeline("1", channel, now);
    for (const text of ["", "{", "null", '{"from":"2"}', '{"from":"2","app":"a/b","running":-1,"wantedMs":0}']) {
      receive(text);
    }
    assert.deepEqual(peers.of("a/b"), { running: 0, wantedMs: 0 });
    calls.begin("a/b");
    await pass(500);
    assert.equal(errors.length, 1);
    isAway = false;
    await pass(5_000);
    assert.deepEqual(
      sent.map((text) => JSON.parse(text)),
      [{ from: "1", app: "a/b", running: 1, wantedMs: 0 }],
    );
  });
});
