import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import * as http2 from "node:http2";
import * as https from "node:https";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect, promisify } from "node:util";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { http2Request } from "../mesh/support/raw-http.js";
import { createAuthority } from "../support/certificates.js";
import { createHeldEngine } from "../support/held-engine.js";
import { securedApp, startSecureMesh } from "../support/secure-mesh.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const generatePath = "/throughline.v1.ImagePipelineService/Generate";

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

/** POSTs JSON by node:https, over HTTP/1.1. */
async function post(
  url: string,
  options: https.RequestOptions & { readonly key?: string; readonly cert?: string; readonly body?: string },
): Promise<Answer> {
  const { body = '{"prompt":"CANARY-PROMPT"}', headers, ...rest } = options;
  const request = https.request(url, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json", ...headers },
    ...rest,
  });
  request.on("error", () => {});
  request.end(body);
  const [response] = await once(request, "response");
  return {
    status: response.statusCode,
    text: Buffer.concat(await response.toArray()).toString(),
    headers: response.headers,
  };
}

const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });

suite("mesh with TLS and authentication", async () => {
  const mesh = await startSecureMesh();
  const { ca, keys } = mesh;
  const url = `${mesh.pipeline.url}${generatePath}`;
  const definition = loadSync("throughline/v1/pipeline.proto", {
    includeDirs: [`${root}/proto`, `${root}/third_party/proto`],
    keepCase: true,
  });

  /** A call by @grpc/grpc-js: the prompt's image, or the error. */
  const callByGrpc = (credentials: grpc.ChannelCredentials, key?: string, request: object = { prompt: "x" }) => {
    const service = definition["throughline.v1.ImagePipelineService"] as grpc.ServiceDefinition;
    const { Generate } = service as Record<string, grpc.MethodDefinition<object, { image: { content_type: string } }>>;
    assert.ok(Generate);
    const client = new grpc.Client(`localhost:${mesh.pipeline.port}`, credentials);
    const metadata = new grpc.Metadata();
    if (key !== undefined) {
      metadata.set("authorization", `Bearer ${key}`);
    }
    return new Promise<string>((resolve, reject) => {
      client.makeUnaryRequest(
        Generate.path,
        Generate.requestSerialize,
        Generate.responseDeserialize,
        request,
        metadata,
        (error, response) => {
          client.close();
          if (error) {
            reject(error);
          } else {
            resolve(response?.image.content_type ?? "");
          }
        },
      );
    });
  };
  const tls = grpc.credentials.createSsl(Buffer.from(ca));

  test("caller with a key generates by @grpc/grpc-js, node:https, node:http2 and buf curl", async (t) => {
    assert.equal(await callByGrpc(tls, keys.studio), "image/png");
    const answer = await post(url, { ca, ...bearer(keys.studio) });
    assert.equal(answer.status, 200);
    assert.match(answer.text, /"trace_id":"[0-9a-f]{32}"/);
    const session = http2.connect(mesh.pipeline.url, { ca });
    t.after(() => session.destroy());
    const headers = { "content-type": "application/json", authorization: `Bearer ${keys.studio}` };
    const overHttp2 = await http2Request(session, generatePath, { headers, body: '{"prompt":"x"}' });
    assert.equal(overHttp2.status, 200);
    for (const protocol of ["grpc", "grpcweb", "connect"]) {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [
          `${root}/node_modules/@bufbuild/buf/bin/buf`,
          "curl",
          ...["--protocol", protocol, "--cacert", mesh.caFile, "-H", `authorization: Bearer ${keys.studio}`],
          ...["--reflect-header", `authorization: Bearer ${keys.studio}`],
          ...["-d", '{"prompt": "a red heart"}', url.replace("127.0.0.1", "localhost")],
        ],
        { cwd: root },
      );
      assert.match(stdout, /data:image\/png/);
    }
  });

  test("caller with a certificate generates and is identified by its name", async () => {
    const known = await mesh.authority.issue({ name: "studio" });
    assert.equal((await post(url, { ca, ...known })).status, 200);
    const credentials = grpc.credentials.createSsl(Buffer.from(ca), Buffer.from(known.key), Buffer.from(known.cert));
    assert.equal(await callByGrpc(credentials), "image/png");
    const other = await mesh.authority.issue({ name: "someone" });
    assert.equal((await post(url, { ca, ...other })).status, 401);
  });

  test("unauthenticated client gets UNAUTHENTICATED by every protocol", async () => {
    for (const key of [undefined, "tl_wrong", `${keys.studio}x`]) {
      await assert.rejects(callByGrpc(tls, key), { code: grpc.status.UNAUTHENTICATED });
      const answer = await post(url, { ca, ...(key !== undefined && bearer(key)) });
      assert.equal(answer.status, 401);
      assert.equal(answer.headers["www-authenticate"], "Bearer");
      assert.match(answer.text, /"code":"unauthenticated"/);
    }
  });

  test("body of an unauthenticated request is not read", async () => {
    const answer = await post(url, { ca, body: `{"prompt": "${"x".repeat(2_000_000)}` });
    assert.equal(answer.status, 401);
  });

  test("app without access is PERMISSION_DENIED, and the error names no app", async () => {
    for (const request of [
      { prompt: "x" },
      { prompt: "x", worker_app: securedApp },
      { prompt: "x", worker_app: "no/app" },
    ]) {
      await assert.rejects(callByGrpc(tls, keys.guest, request), (error: grpc.ServiceError) => {
        assert.equal(error.code, grpc.status.PERMISSION_DENIED);
        assert.doesNotMatch(error.message, /acme/);
        return true;
      });
    }
    const own = callByGrpc(tls, keys.guest, { prompt: "x", worker_app: "acme/other" });
    await assert.rejects(own, { code: grpc.status.UNAVAILABLE });
  });

  test("caller over its rate gets RESOURCE_EXHAUSTED with RetryInfo", async () => {
    assert.equal((await post(url, { ca, ...bearer(keys.slow) })).status, 200);
    const answer = await post(url, { ca, ...bearer(keys.slow) });
    assert.equal(answer.status, 429);
    assert.match(answer.text, /google\.rpc\.RetryInfo/);
    await assert.rejects(callByGrpc(tls, keys.slow), { code: grpc.status.RESOURCE_EXHAUSTED });
  });

  test("health is open to every client, and reflection needs authentication", async () => {
    const health = await post(`${mesh.pipeline.url}/grpc.health.v1.Health/Check`, { ca, body: "{}" });
    assert.equal(health.status, 200);
    const session = http2.connect(mesh.pipeline.url, { ca });
    const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const reflection = await http2Request(session, path, { headers: { "content-type": "application/grpc" } });
    session.destroy();
    assert.equal(reflection.headers["grpc-status"], String(grpc.status.UNAUTHENTICATED));
  });

  test("worker accepts no connection without a certificate of its authority", async () => {
    const worker = `${mesh.worker.url}/throughline.v1.TextToImageWorkerService/Infer`;
    await assert.rejects(post(worker, { ca, ...bearer(keys.studio) }));
    const known = await mesh.authority.issue({ name: "pipeline" });
    assert.equal((await post(worker, { ca, ...known })).status, 200);
  });

  test("each rejected access is one line with its reason, caller and address, and no key", async () => {
    const other = await mesh.authority.issue({ name: "outsider" });
    const models = `${mesh.pipeline.url}/throughline.v1.ImagePipelineService/ListModels`;
    await post(models, { ca, body: "{}" });
    await post(models, { ca, body: "{}", ...bearer("tl_CANARY-KEY") });
    await post(models, { ca, body: "{}", ...other });
    await post(url, { ca, ...bearer(keys.guest) });
    await post(url, { ca, ...bearer(keys.slow) });
    await post(url, { ca, ...bearer(keys.slow) });
    const worker = `${mesh.worker.url}/throughline.v1.TextToImageWorkerService/Infer`;
    await assert.rejects(post(worker, { ca }));
    const foreign = await createAuthority();
    await assert.rejects(post(worker, { ca, ...(await foreign.issue({ name: "pipeline" })) }));
    const known = await mesh.authority.issue({ name: "studio" });
    await post(worker, { ca, ...known, body: "{}" });

    const pipeline = "throughline.v1.ImagePipelineService";
    const wanted = [
      ["no_credentials", { method: `${pipeline}/ListModels` }],
      ["unknown_credentials", { method: `${pipeline}/ListModels` }],
      ["unknown_credentials", { method: `${pipeline}/ListModels`, certificate: "dns:localhost" }],
      ["app_not_permitted", { method: `${pipeline}/Generate`, caller: "guest" }],
      ["rate_limit", { method: `${pipeline}/Generate`, caller: "slow" }],
      ["client_certificate", { problem: "NO_CERTIFICATE" }],
      // Another authority of the same name.
      ["client_certificate", { problem: "CERT_SIGNATURE_FAILURE" }],
    ] as const;
    const level = { debug: 20, info: 30, warn: 40 };
    const lines = () => mesh.lines.flatMap((line) => (line.includes('"access.rejected"') ? [JSON.parse(line)] : []));
    // The client may see the end of its connection before the server reports it.
    while (!lines().some(({ problem }) => problem === "CERT_SIGNATURE_FAILURE")) {
      await new Promise(setImmediate);
    }
    for (const [reason, fields] of wanted) {
      const found = lines().filter(
        (line) =>
          line.reason === reason &&
          line.msg === "access rejected" &&
          line.certificate === ("certificate" in fields ? fields.certificate : undefined) &&
          Object.entries(fields).every(([name, value]) => line[name] === value),
      );
      assert.ok(found.length > 0, `${reason} ${inspect(fields)}`);
      const { time: _time, pid: _pid, hostname: _hostname, ...rest } = found[0];
      assert.deepEqual(rest, {
        level: reason === "rate_limit" ? level.info : level.warn,
        event: "access.rejected",
        reason,
        peer: "127.0.0.1",
        ...fields,
        count: 1,
        msg: "access rejected",
      });
    }
  });

  test("logs, spans and responses contain no keys and no request text", async () => {
    const wrong = "tl_CANARY-KEY";
    const answers = [
      await post(url, { ca, ...bearer(keys.studio) }),
      await post(url, { ca, ...bearer(wrong) }),
      await post(url, { ca, headers: { authorization: "Basic CANARY-KEY" } }),
      await post(url, { ca, ...bearer(keys.studio), body: '{"prompt":5,"CANARY-PROMPT":"CANARY-KEY"}' }),
      await post(url, { ca, ...bearer(keys.guest), body: '{"prompt":"CANARY-PROMPT","worker_app":"CANARY/KEY"}' }),
      await post(`${url}/CANARY-KEY`, { ca, ...bearer(keys.studio) }),
    ];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 401, 401, 400, 403, 404],
    );
    assert.ok(mesh.lines.length > 0);
    assert.ok(mesh.collector.spans().length > 6);
    const privateKey = await readFile(`${mesh.folder}/server.key`, "utf8");
    const everything = [
      ...mesh.lines,
      inspect(mesh.collector.spans(), { depth: null, maxStringLength: null, maxArrayLength: null }),
      ...answers.map((each) => JSON.stringify(each)),
    ];
    const secrets = [
      ...Object.values(keys),
      "CANARY-KEY",
      "CANARY-PROMPT",
      "CANARY/KEY",
      privateKey.split("\n")[1] ?? "?",
    ];
    for (const text of everything) {
      for (const secret of secrets) {
        assert.ok(!text.includes(secret), `${secret.slice(0, 12)} in ${text.slice(0, 300)}`);
      }
    }
  });
});

test("caller's running calls are counted until they end", async () => {
  const held = createHeldEngine();
  const mesh = await startSecureMesh({ engine: held.engine });
  const options = { ca: mesh.ca, ...bearer(mesh.keys.studio) };
  const url = `${mesh.pipeline.url}${generatePath}`;
  const slow = { ca: mesh.ca, ...bearer(mesh.keys.slow) };
  const first = post(url, slow);
  await held.reached;
  const second = await post(url, slow);
  assert.equal(second.status, 429);
  assert.match(second.text, /limit of 1 concurrent calls/);
  held.release();
  assert.equal((await first).status, 200);
  assert.match((await post(url, slow)).text, /rate limit of 1 requests a minute/);
  assert.equal((await post(url, options)).status, 200);
});
