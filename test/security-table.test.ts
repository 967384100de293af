import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { defaultMaxRequestBytes } from "../src/app/create-app.js";
import { maxExportBytes } from "../src/cli/commands/collector.js";
import { pollsPerSecond } from "../src/fronts/fal/poll-pace.js";
import { maxStatusStreams } from "../src/fronts/fal/stream-limit.js";
import { maxFormBytes } from "../src/fronts/openai/multipart.js";
import { defaultWaitingLimits } from "../src/jobs/waiting-limits.js";
import { unreadBytes } from "../src/mesh/port/http2-side.js";
import { defaultListenLimits } from "../src/mesh/port/listen-limits.js";
import {
  defaultBodyMemoryBytes,
  defaultBodyTimeoutMs,
  defaultHeldBodyBytes,
} from "../src/mesh/serve/connect-handler.js";
import { maxJsonDepth, maxJsonValues } from "../src/mesh/serve/json-shape.js";
import { discardMaxBytes } from "../src/mesh/serve/request-body.js";
import { defaultLeaseMs, defaultMaxLeases, defaultMaxLeasesPerCaller } from "../src/registry/leases.js";
import { maxImageRequestBytes, maxInitImageSide, requestLimits } from "../src/request-limits.js";

const page = readFileSync(new URL("../SECURITY.md", import.meta.url), "utf8");

test("every test named in SECURITY.md exists", () => {
  const named = [...page.matchAll(/\| `(test\/[\w/.-]+\.ts)`: (.+) \|$/gm)];
  assert.ok(named.length > 25, `${named.length} tests are named`);
  for (const [, file = "", name = ""] of named) {
    const source = readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
    // Names built from a table of cases: the variable part is a string elsewhere in the file.
    const parts = name
      .split(/^callers file with (.*) is rejected, and the error quotes nothing from it$|^grpc(: )/)
      .filter((part) => part !== undefined && part !== "" && part !== ": ");
    for (const part of parts) {
      assert.ok(source.includes(`"${part}"`) || source.includes(`: ${part}\``), `${file} has no test "${part}"`);
    }
  }
});

test("limits in SECURITY.md are those of the code", () => {
  const limits = defaultListenLimits;
  const count = (value: number) => value.toLocaleString("en");
  const seconds = (ms: number) => `${ms / 1000} s`;
  const kib = (bytes: number) => `${bytes / 1024} KiB`;
  const mib = (bytes: number) => `${bytes / 1024 ** 2} MiB`;
  const expected = {
    "connections, all together": count(limits.maxConnections),
    "connections of one IPv4 address or IPv6 /64 network": count(limits.maxConnectionsPerAddress),
    "TLS handshake, or the first bytes": seconds(limits.prefaceTimeoutMs),
    "header fields": kib(limits.maxHeaderBytes),
    "path with query": kib(limits.maxUrlBytes),
    "headers, whole request (HTTP/1.1)": `${seconds(limits.headersTimeoutMs)}, ${seconds(limits.requestTimeoutMs)}`,
    "body of an RPC, to arrive": seconds(defaultBodyTimeoutMs),
    "body of a request to OpenAI's API": mib(defaultMaxRequestBytes),
    "body of a request to fal's API": mib(maxImageRequestBytes),
    "polls of one client with fal's API": `${count(pollsPerSecond)} a second`,
    "open status streams of one client with fal's API": count(maxStatusStreams),
    "form of an edit with OpenAI's API, its image 8 MiB": mib(maxFormBytes),
    "request message, also decompressed": `${mib(defaultMaxRequestBytes)}; of CreateJob, Generate, GenerateStream, Infer and InferStream ${mib(maxImageRequestBytes)} (collector ${mib(maxExportBytes)})`,
    "the rest of an HTTP/2 message over that limit, read and discarded before the answer": mib(discardMaxBytes),
    "JSON requests of RPCs and of the other APIs": `${count(maxJsonDepth)} levels, ${count(maxJsonValues)} values`,
    "image to start from": `${mib(requestLimits.maxInitImageBytes)}, ${maxInitImageSide} pixels a side`,
    "request bodies that are arriving, all together": mib(defaultBodyMemoryBytes),
    "request bodies of running calls, all together, without the first 16 KiB of each": mib(defaultHeldBodyBytes),
    "unanswered HTTP/1.1 requests of a connection": count(limits.maxPipelinedRequests),
    "unread bytes of an HTTP/2 connection": kib(unreadBytes),
    "HTTP/2 streams of a connection": count(limits.maxConcurrentStreams),
    // Of nghttp2, which has no way to ask; test/mesh/port/listen-abuse.test.ts floods it.
    "HTTP/2 streams that are opened and reset in a flood": "nghttp2's: 1,000, then 33 a second",
    "a response that is not read (a stream, or an HTTP/1.1 connection)": seconds(limits.writeTimeoutMs),
    "an HTTP/1.1 connection to be closed, whose body still arrives after its answer": `${seconds(limits.lingerMs)}, ${mib(limits.lingerBytes)}`,
    "waiting jobs, of all callers": `${count(defaultWaitingLimits.all)} (\`--jobs-max-waiting\`)`,
    "waiting jobs of one caller": `${count(defaultWaitingLimits.perOwner)} (\`--jobs-max-waiting-per-caller\`)`,
    "leases of workers that register, all together": count(defaultMaxLeases),
    "leases of one caller": count(defaultMaxLeasesPerCaller),
    "a lease that is not renewed": seconds(defaultLeaseMs),
    "idle connection": `HTTP/1.1 ${seconds(limits.keepAliveTimeoutMs)}, HTTP/2 ${limits.idleSessionTimeoutMs / 60_000} min`,
    "an HTTP/2 connection that answers no PING": seconds(limits.keepaliveTimeoutMs),
  };
  const [, table = ""] = /## Limits\n([\s\S]*?)\n## /.exec(page) ?? [];
  const rows = [...table.matchAll(/^\| (.+?) \| (.+?) \| .+ \|$/gm)].slice(1).map(([, what, limit]) => [what, limit]);
  assert.deepEqual(Object.fromEntries(rows), expected);
});
