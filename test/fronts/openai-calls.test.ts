import assert from "node:assert/strict";
import { createServer, OutgoingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { createOpenAiFront } from "../../src/fronts/openai/front.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createAccessControl } from "../../src/mesh/access/access-control.js";
import { createCallerDirectory } from "../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { pieceBytes } from "../../src/mesh/serve/write-response.js";

/** The front over another pipeline, for a caller with one concurrent call. Returns its requests and the number of admitted calls. */
async function serveFront(t: TestContext, pipeline: Partial<ServiceImpl<typeof ImagePipelineService>>) {
  const key = createCallerKey();
  const current = createCallerDirectory([
    { name: "shop", mayUse: () => true, maxConcurrent: 1, keys: [hashCallerKey(key)], certificates: [] },
  ]);
  const { admit, identify, report } = createAccessControl({ callers: { current, onChange() {}, close() {} } });
  let admitted = 0;
  const server = createServer(
    createConnectHandler({
      routes: (router) => void router.service(ImagePipelineService, pipeline),
      fronts: [createOpenAiFront()],
      accessControl: {
        identify,
        report,
        admit(call) {
          const slot = admit(call);
          admitted++;
          return slot;
        },
      },
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const post = (body: object, headers: Readonly<Record<string, string>> = {}) =>
    fetch(`http://127.0.0.1:${port}/v1/images/generations`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      body: JSON.stringify({ prompt: "a red heart", ...body }),
    });
  return { post, admitted: () => admitted };
}

const image = { data: new Uint8Array([1]), contentType: "image/png" };

suite("OpenAI's images API: its calls to the pipeline", () => {
  test("the time limit is that of all images together", async (t) => {
    const remaining: [start: number, end: number][] = [];
    const { post } = await serveFront(t, {
      async generate(_request, call) {
        const start = call.timeoutMs() ?? assert.fail("no deadline");
        // Takes some of the time, so that the next call has less.
        await new Promise((resolve) => setTimeout(resolve, 50));
        remaining.push([start, call.timeoutMs() ?? 0]);
        return { image };
      },
    });
    assert.equal((await post({ n: 2 }, { "x-stainless-timeout": "60" })).status, 200);
    const [[, firstEnd] = [0, 0], [secondStart] = [0]] = remaining;
    assert.ok(secondStart > 0 && secondStart <= firstEnd + 5, JSON.stringify(remaining));
  });

  test("images are written in pieces, so that the time limit of a write does not end a slow reader", async (t) => {
    const { mock } = t.mock.method(OutgoingMessage.prototype, "write");
    const ends = t.mock.method(OutgoingMessage.prototype, "end").mock;
    const { post } = await serveFront(t, {
      generate: () => ({ image: { ...image, data: new Uint8Array(1_000_000) } }),
    });
    const text = await (await post({ n: 2 })).text();
    const sizes = mock.calls.map(({ arguments: [chunk] }) => Buffer.from(chunk).byteLength);
    assert.ok(Math.max(...sizes) <= pieceBytes, sizes.join());
    assert.equal(
      sizes.reduce((sum, size) => sum + size, 0),
      text.length,
    );
    assert.deepEqual(
      ends.calls.map(({ arguments: [chunk] }) => chunk),
      [undefined],
    );
  });

  test("after a failure, no waiting image is admitted or generated", async (t) => {
    let generations = 0;
    const { post, admitted } = await serveFront(t, {
      generate() {
        generations++;
        throw new ConnectError("no worker is ready", Code.Unavailable);
      },
    });
    assert.equal((await post({ n: 5 })).status, 503);
    assert.deepEqual([generations, admitted()], [1, 1]);
  });

  for (const numInferenceSteps of [0, 4_294_967_295]) {
    test(`a model described with ${numInferenceSteps} steps gets a preview interval within the contract`, async (t) => {
      const intervals: (number | undefined)[] = [];
      const { post } = await serveFront(t, {
        listModels: () => ({
          models: [{ workerApp: "local/broken", name: "broken", defaults: { numInferenceSteps } }],
        }),
        async *generateStream({ request }) {
          intervals.push(request?.options?.previewInterval);
          yield { event: { case: "result", value: { image } } };
        },
      });
      assert.match(await (await post({ stream: true, partial_images: 1 })).text(), /image_generation.completed/);
      assert.deepEqual(intervals, [numInferenceSteps === 0 ? 1 : 150]);
    });
  }
});
