import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { listen } from "../../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../../src/mesh/serve/connect-handler.js";
import { connectHttp2, connectTcp, envelope, http1, postJson } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const generateStream = "/throughline.v1.ImagePipelineService/GenerateStream";

test("Connect and gRPC-Web streams set x-accel-buffering: no, and gRPC streams do not", async (t) => {
  const { url } = await serveEcho(t);
  for (const [type, buffering] of [
    ["application/connect+json", "no"],
    ["application/grpc-web+json", "no"],
    ["application/grpc+json", undefined],
  ] as const) {
    const response = await http1(url, generateStream, {
      method: "POST",
      headers: { "content-type": type },
      body: envelope('{"request":{"prompt":"x"}}'),
    });
    assert.equal(response.status, 200);
    assert.equal(response.headers["x-accel-buffering"], buffering, type);
  }
});

suite("stream whose client does not read", () => {
  const types = ["application/grpc+json", "application/connect+json"];
  for (const [version, type] of [2, 1].flatMap((version) => types.map((type) => [version, type] as const))) {
    test(`stream is held back while its client does not read, and ends when it disconnects (HTTP/${version}, ${type})`, async (t) => {
      let sent = 0;
      let end: (how: string) => void = () => {};
      const ended = new Promise<string>((resolve) => {
        end = resolve;
      });
      const handler = createConnectHandler({
        routes(router) {
          router.service(ImagePipelineService, {
            async *generateStream(_, { signal }) {
              try {
                const preview = new Uint8Array(100_000);
                for (; ; sent++) {
                  yield { event: { case: "progress", value: { preview } } };
                }
              } finally {
                end(Code[ConnectError.from(signal.reason).code] ?? "");
              }
            },
          });
        },
      });
      const { url, port, stop } = await listen({ port: 0, handler });
      t.after(() => stop({ graceMs: 0, cancelMs: 0 }));
      const body = envelope('{"request":{"prompt":"x"}}');
      if (version === 2) {
        const session = connectHttp2(t, url);
        const stream = session.request({ ":method": "POST", ":path": generateStream, "content-type": type });
        stream.on("error", () => {});
        stream.end(body);
        await once(stream, "response");
        session.destroy();
      } else {
        const socket = await connectTcp(t, port);
        socket.write(
          `POST ${generateStream} HTTP/1.1\r\nhost: x\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n`,
        );
        socket.write(body);
        await once(socket, "readable");
        socket.destroy();
      }
      assert.equal(await ended, "Canceled");
      // Socket buffers take a few megabytes; without back-pressure there would be no end.
      assert.ok(sent < 1_000, `${sent} messages sent`);
    });
  }
});

const generate = "/throughline.v1.ImagePipelineService/Generate";

suite("CORS", () => {
  const preflight = (origin: string) => ({
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
  });

  test("CORS is off by default", async (t) => {
    const { url } = await serveEcho(t);
    const response = await http1(url, generate, preflight("http://localhost:5173"));
    assert.equal(response.status, 405);
    assert.equal(response.headers["access-control-allow-origin"], undefined);
  });

  test("CORS allows the listed origins and the headers that they may send and read", async (t) => {
    const { url } = await serveEcho(t, { cors: { origins: ["https://studio.example", "http://localhost:*"] } });
    for (const origin of ["https://studio.example", "http://localhost:5173", "http://localhost"]) {
      const asked = await http1(url, generate, preflight(origin));
      assert.equal(asked.status, 204);
      assert.equal(asked.headers["access-control-allow-origin"], origin);
      assert.match(String(asked.headers["access-control-allow-methods"]), /POST/);
      assert.match(
        String(asked.headers["access-control-allow-headers"]),
        /Connect-Protocol-Version.*authorization.*traceparent/,
      );
      const called = await postJson(url, generate, '{"prompt":"x"}', { origin });
      assert.equal(called.status, 200);
      assert.equal(called.headers["access-control-allow-origin"], origin);
      assert.match(String(called.headers["access-control-expose-headers"]), /Grpc-Status.*traceresponse/i);
      assert.equal(called.headers.vary, "origin");
    }
    for (const origin of ["https://evil.example", "http://localhost.evil.example", "https://localhost:5173", "null"]) {
      const asked = await http1(url, generate, preflight(origin));
      assert.equal(asked.headers["access-control-allow-origin"], undefined, origin);
    }
  });

  test("CORS allows any origin when configured, including for the fallback handler", async (t) => {
    const { url } = await serveEcho(t, { cors: { origins: ["*"] } });
    const response = await http1(url, "/images/x.png", {
      method: "GET",
      headers: { origin: "https://anyone.example" },
    });
    assert.equal(response.headers["access-control-allow-origin"], "https://anyone.example");
  });
});
