import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { TestContext } from "node:test";
import { type Bucket, openBucket } from "../../src/s3/bucket.js";
import type { BucketLocation } from "../../src/s3/bucket-location.js";

/** Answers an S3 request. */
export type S3Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Answers with an error of S3. */
export function s3Error(status: number, code: string, headers: Readonly<Record<string, string>> = {}): S3Answer {
  return (_request, response) => {
    response.writeHead(status, { "content-type": "application/xml", ...headers });
    response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>of the test</Message></Error>`);
  };
}

/** Starts a server with scripted S3 answers, and opens a bucket in it. The last answer repeats. */
export async function startS3(t: TestContext, ...answers: readonly S3Answer[]) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    request.resume();
    answers[Math.min(requests.length, answers.length) - 1]?.(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  const endpoint = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  return {
    endpoint,
    requests,
    open: (more: Partial<BucketLocation> = {}): Promise<Bucket> =>
      openBucket({ bucket: "images", prefix: "", endpoint, forcePathStyle: true, urlTtlSeconds: 60, ...more }),
  };
}

/** Credentials of the tests. The SDK reads them from the environment. */
export function setCredentials(t: TestContext): void {
  const before = { ...process.env };
  process.env["AWS_ACCESS_KEY_ID"] = "tester";
  process.env["AWS_SECRET_ACCESS_KEY"] = "a secret of the tests";
  process.env["AWS_EC2_METADATA_DISABLED"] = "true";
  t.after(() => {
    process.env = before;
  });
}
