import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createApp, reloadTlsMaterial } from "../../src/app/app.js";
import { createAuthority, writeCertificate } from "../support/certificates.js";
import { appOptions } from "./support/app-options.js";
import { buildH2spec } from "./support/go-programs.js";
import type { Part } from "./support/part.js";
import { runProgram } from "./support/run-program.js";

interface Tls {
  readonly cert: string;
  readonly key: string;
}

interface Served {
  readonly port: number;
  stop(): Promise<unknown>;
}

/** Runs of a section before a difference counts as ours: some cases pass or fail by chance, with either server. */
const runs = 6;

/**
 * h2spec against an app, and against Node's own HTTP/2 server, which answers as the app does. A case fails only where the app fails it and
 * Node passes it, in each of {@link runs} runs.
 */
export function h2spec(scheme: "h2c" | "TLS"): Part {
  return {
    name: `h2spec over ${scheme}`,
    async run() {
      const program = await buildH2spec();
      const folder = mkdtempSync(join(tmpdir(), "throughline-h2spec-"));
      try {
        const tls = scheme === "TLS" ? await makeCertificate(folder) : undefined;
        const ours = await runAgainst(program, join(folder, "ours.xml"), await serveApp(tls), tls);
        const nodes = await runAgainst(program, join(folder, "node.xml"), await serveNode(tls), tls);
        for (const section of differences(ours, nodes)) {
          for (let run = 1; run < runs; run++) {
            const again = (served: Served) => runAgainst(program, join(folder, "again.xml"), served, tls, [section]);
            takeOver(await again(await serveApp(tls)), ours, (passed) => passed);
            takeOver(await again(await serveNode(tls)), nodes, (passed) => !passed);
          }
        }
        const cases = [...nodes].map(([name, node]) => {
          const own = ours.get(name) ?? { passed: false, detail: "not run" };
          const passed = own.passed || !node.passed;
          return { name, passed, detail: passed ? "" : own.detail };
        });
        return { cases, comparison: `h2spec itself: ours ${total(ours)}, Node's http2 server ${total(nodes)}` };
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}

type Outcomes = Map<string, { readonly passed: boolean; readonly detail: string }>;

/** Sections with cases that Node's server passes and ours does not, such as `http2/6.9.1`. */
function differences(ours: Outcomes, nodes: Outcomes): ReadonlySet<string> {
  const names = [...nodes].filter(([name, { passed }]) => passed && ours.get(name)?.passed !== true);
  return new Set(names.map(([name]) => name.slice(0, name.indexOf(": "))));
}

/** Replaces the outcomes of cases that ended in a certain way in another run. */
function takeOver(from: Outcomes, to: Outcomes, isWanted: (passed: boolean) => boolean): void {
  for (const [name, outcome] of from) {
    if (isWanted(outcome.passed)) {
      to.set(name, outcome);
    }
  }
}

const total = (outcomes: Outcomes): string =>
  `${[...outcomes.values()].filter(({ passed }) => passed).length} of ${outcomes.size}`;

/** @param sections which to run. @default all */
async function runAgainst(
  program: string,
  report: string,
  served: Served,
  tls: Tls | undefined,
  sections: readonly string[] = [],
): Promise<Outcomes> {
  const address = ["-h", "127.0.0.1", "-p", String(served.port), ...(tls === undefined ? [] : ["-t", "-k"])];
  const { tail } = await runProgram(program, [...sections, ...address, "-j", report], { timeoutMs: 300_000 });
  await served.stop();
  const outcomes = new Map<string, { passed: boolean; detail: string }>();
  // The report is JUnit's XML; a case without a child passed.
  for (const [, section, title, children = ""] of readFileSync(report, "utf8").matchAll(
    /<testcase package="([^"]*)" classname="([^"]*)"[^>]*>([\s\S]*?)<\/testcase>/g,
  )) {
    let name = `${section}: ${title}`;
    for (let again = 2; outcomes.has(name); again++) {
      name = `${section}: ${title} (${again})`;
    }
    outcomes.set(name, { passed: !/<(failure|error|skipped)/.test(children), detail: children.trim() });
  }
  if (outcomes.size === 0) {
    throw new Error(`h2spec reported no cases: ${tail}`);
  }
  return outcomes;
}

async function serveApp(tls: Tls | undefined): Promise<Served> {
  const app = createApp({ ...appOptions("h2spec-server"), services: [], routes() {} });
  const material = tls === undefined ? undefined : reloadTlsMaterial(tls, { onRejected() {} });
  const running = await app.serve({ port: 0, ...(material && { tls: { material } }) });
  return {
    port: running.port,
    async stop() {
      await running.stop({ graceMs: 0 });
      material?.close();
    },
  };
}

async function serveNode(tls: Tls | undefined): Promise<Served> {
  const answer = (_: http2.Http2ServerRequest, response: http2.Http2ServerResponse): void => {
    response.writeHead(404, { "content-type": "text/plain; charset=utf-8", "content-length": 10 });
    response.end("not found\n");
  };
  const server =
    tls === undefined
      ? http2.createServer(answer)
      : http2.createSecureServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) }, answer);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error("Node's server is not bound to a TCP port");
  }
  return {
    port: address.port,
    async stop() {
      for (const session of sessions) {
        session.destroy();
      }
      server.close();
      await once(server, "close");
    },
  };
}

async function makeCertificate(folder: string): Promise<Tls> {
  const authority = await createAuthority();
  return writeCertificate(folder, "server", await authority.issue());
}
