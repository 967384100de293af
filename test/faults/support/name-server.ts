import { createSocket } from "node:dgram";
import { EventEmitter, once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A name server that knows no name. */
export interface NameServer {
  /** A resolv.conf that leads to it. */
  readonly configuration: string;
  /** Names that it was asked for. */
  readonly asked: readonly string[];
  /** Resolves once it was asked for such a name; rejects after a minute. */
  whenAsked(name: RegExp): Promise<void>;
  forget(): void;
  close(): void;
}

const timeoutMs = 60_000;

/** Starts a name server on an address of loopback. Its configuration is written into the folder. */
export async function startNameServer(address: string, folder: string): Promise<NameServer> {
  const asked: string[] = [];
  const questions = new EventEmitter();
  const server = createSocket("udp4", (query, from) => {
    server.send(withoutAnswer(query), from.port, from.address);
    asked.push(nameIn(query));
    questions.emit("question");
  });
  server.bind(53, address);
  await once(server, "listening");
  const configuration = join(folder, `${address}.conf`);
  await writeFile(configuration, `nameserver ${address}\noptions timeout:1 attempts:1\n`);
  return {
    configuration,
    asked,
    async whenAsked(name) {
      const signal = AbortSignal.timeout(timeoutMs);
      while (!asked.some((each) => name.test(each))) {
        await once(questions, "question", { signal });
      }
    },
    forget() {
      asked.length = 0;
    },
    close: () => void server.close(),
  };
}

/** The name that a DNS query asks for: labels with their lengths before them, from the thirteenth byte on. */
function nameIn(query: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; (query[at] ?? 0) > 0; at += (query[at] ?? 0) + 1) {
    labels.push(query.toString("latin1", at + 1, at + 1 + (query[at] ?? 0)));
  }
  return labels.join(".");
}

/** The query as its answer: NXDOMAIN. */
function withoutAnswer(query: Buffer): Buffer {
  const answer = Buffer.from(query);
  answer.writeUInt16BE(0x8183, 2);
  return answer;
}
