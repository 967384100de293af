import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { defaultListenLimits } from "../src/mesh/port/listen-limits.js";

const page = readFileSync(new URL("../SECURITY.md", import.meta.url), "utf8");

test("every test that SECURITY.md names exists", () => {
  const named = [...page.matchAll(/\| `(test\/[\w/.-]+\.test\.ts)`: (.+) \|$/gm)];
  assert.ok(named.length > 25, `${named.length} tests are named`);
  for (const [, file = "", name = ""] of named) {
    const source = readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
    // Where a name is made from a table of cases, what varies stands elsewhere.
    const parts = name
      .split(/^is refused with (.*), in words that quote nothing$|^grpc(: )/)
      .filter((part) => part !== undefined && part !== "" && part !== ": ");
    for (const part of parts) {
      assert.ok(source.includes(`"${part}"`) || source.includes(`: ${part}\``), `${file} has no test "${part}"`);
    }
  }
});

test("the limits in SECURITY.md are those of the code", () => {
  const { maxConnections, maxConnectionsPerAddress, maxHeaderBytes, maxUrlBytes, maxPipelinedRequests } =
    defaultListenLimits;
  for (const row of [
    `| connections, all together | ${maxConnections.toLocaleString("en")} |`,
    `| connections of one IPv4 address or IPv6 /64 network | ${maxConnectionsPerAddress.toLocaleString("en")} |`,
    `| header fields | ${maxHeaderBytes / 1024} KiB |`,
    `| path with query | ${maxUrlBytes / 1024} KiB |`,
    `| unanswered HTTP/1.1 requests of a connection | ${maxPipelinedRequests} |`,
    `| HTTP/2 streams of a connection | ${defaultListenLimits.maxConcurrentStreams} |`,
    `| an answer that is not read (a stream, or an HTTP/1.1 connection) | ${defaultListenLimits.writeTimeoutMs / 1000} s |`,
    `| an HTTP/2 connection that answers no PING | ${defaultListenLimits.keepaliveTimeoutMs / 1000} s |`,
  ]) {
    assert.ok(page.includes(row), row);
  }
});
