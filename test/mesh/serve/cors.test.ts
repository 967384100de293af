import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { http1, postJson } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

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
