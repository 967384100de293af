import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { pino } from "pino";
import { type AccessLogOptions, createAccessLog } from "../../src/app/access-log.js";
import type { AccessRejection } from "../../src/mesh/access/rejections.js";

/** A log and the parsed lines that it wrote, without their times. */
function openLog(options: Omit<AccessLogOptions, "logger"> = {}) {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  const logger = pino({ base: {}, timestamp: false, formatters: { level: (level) => ({ level }) } }, { write });
  return { lines, ...createAccessLog({ logger, ...options }) };
}

const wrongKey: AccessRejection = { reason: "unknown_credentials", peer: "192.0.2.7", method: "a.Service/Call" };
const event = "access.rejected";
const countOf = (lines: readonly Record<string, unknown>[]) => lines.reduce((sum, { count }) => sum + Number(count), 0);

suite("log of rejected access", () => {
  test("the first of equal rejections is logged at once, and the others as one count", () => {
    const log = openLog();
    for (let count = 0; count < 1_000; count++) {
      log.onRejected(wrongKey);
    }
    const first = { level: "warn", event, ...wrongKey, count: 1, msg: "access rejected" };
    assert.deepEqual(log.lines, [first]);
    log.close();
    assert.deepEqual(log.lines, [first, { ...first, count: 999, msg: "access rejected again" }]);
    log.close();
    assert.equal(log.lines.length, 2);
  });

  test("a flood of many clients writes a bounded number of lines, whose counts are all rejections", () => {
    const log = openLog({ maxOfReason: 20 });
    for (let count = 0; count < 5_000; count++) {
      log.onRejected({ ...wrongKey, peer: `192.0.2.${count % 250}` });
    }
    log.onRejected({ reason: "app_not_permitted", caller: "guest" });
    log.close();
    assert.equal(log.lines.length, 20 + 1 + 20 + 1);
    assert.equal(countOf(log.lines), 5_001);
    assert.deepEqual(log.lines.at(-1), {
      level: "warn",
      event,
      reason: "unknown_credentials",
      count: 5_000 - 20 * 20,
      msg: "access rejected, more than are logged one by one",
    });
    assert.ok(
      log.lines.some(({ caller }) => caller === "guest"),
      "a flood of one reason hides no other reason",
    );
  });

  test("a new window begins when the last one has ended", (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const log = openLog({ windowMs: 60_000 });
    log.onRejected(wrongKey);
    log.onRejected(wrongKey);
    t.mock.timers.tick(59_999);
    assert.equal(log.lines.length, 1);
    t.mock.timers.tick(1);
    log.onRejected(wrongKey);
    assert.deepEqual(
      log.lines.map(({ count, msg }) => [count, msg]),
      [
        [1, "access rejected"],
        [1, "access rejected again"],
        [1, "access rejected"],
      ],
    );
  });

  test("callers at their own limits are logged at info", () => {
    const log = openLog();
    log.onRejected({ reason: "rate_limit", caller: "slow" });
    log.onRejected({ reason: "concurrency_limit", caller: "slow" });
    log.onRejected({ reason: "foreign_host" });
    assert.deepEqual(
      log.lines.map(({ level }) => level),
      ["info", "info", "warn"],
    );
  });
});
