import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import type { ImageSchema } from "../../src/gen/throughline/v1/image_pb.js";
import { type GenerateResponseSchema, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { type NodeHandler, respondPlain } from "../../src/mesh/port/node-handler.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { makeSpan } from "../support/make-span.js";
import { type ProgramRun, runInProcess } from "./support/run-in-process.js";
import { startCollector } from "./support/start-collector.js";

const png = Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.from("the rest of an image")]);
const traceId = "0af7651916cd43dd8448eb211c80319c";

/** A pipeline with scripted responses and images. */
async function startPipeline(
  t: TestContext,
  answer: () => MessageInitShape<typeof GenerateResponseSchema>,
  studio?: { readonly hasTraces: boolean },
) {
  const paths: string[] = [];
  let files: NodeHandler = (_request, response) => void response.end(png);
  const handler = createConnectHandler({
    routes({ service }) {
      service(ImagePipelineService, {
        async *generateStream() {
          yield { event: { case: "result", value: answer() } };
        },
      });
      if (studio !== undefined) {
        service(StudioService, { getStudio: () => studio });
      }
    },
    fallback(request, response) {
      if (request.url?.startsWith("/throughline.studio.")) {
        respondPlain(response, 404, "no studio");
        return;
      }
      paths.push(request.url ?? "");
      files(request, response);
    },
  });
  const listening = await listen({ handler, port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  return {
    url: listening.url,
    /** Paths that were fetched. */
    paths,
    serve(handle: NodeHandler) {
      files = handle;
    },
  };
}

suite("throughline generate with any server response", async () => {
  const folder = await temporaryFolder();
  let runs = 0;

  const generateWith = async (run: ProgramRun, server: string, ...args: readonly string[]) => {
    const out = join(folder, `${runs++}.png`);
    const end = await runInProcess(["generate", "a heart", "--server", server, "--out", out, ...args], run);
    assert.equal(existsSync(out), end.message === "");
    return { ...end, out };
  };
  const generate = (server: string, ...args: readonly string[]) => generateWith({}, server, ...args);

  /** Starts a pipeline that returns the URL of the image at `path`, or another one. */
  const startWith = async (t: TestContext, image: MessageInitShape<typeof ImageSchema> = {}) => {
    const pipeline: Awaited<ReturnType<typeof startPipeline>> = await startPipeline(t, () => ({
      traceId,
      image: { url: `${pipeline.url}/image.png`, contentType: "image/png", fileSize: png.length, ...image },
    }));
    return pipeline;
  };

  test("generate fetches an image from the server", async (t) => {
    const { url, paths } = await startWith(t);
    const { out, stdout, stderr } = await generate(url);
    assert.deepEqual(await readFile(out), png);
    assert.deepEqual(paths, ["/image.png"]);
    assert.equal(stderr, "");
    assert.match(stdout, new RegExp(`image/png, 28 bytes, seed 0\ntrace ${traceId}\n$`));
  });

  test("--out - writes the image alone to stdout", async (t) => {
    const { url } = await startWith(t);
    const args = ["generate", "a heart", "--server", url, "--out", "-"];
    const { code, stdout } = await runInProcess(args, { encoding: "latin1" });
    assert.equal(code, 0);
    assert.deepEqual(Buffer.from(stdout, "latin1"), png);
    const shown = await runInProcess(args, { isTTY: true });
    assert.equal(shown.code, 2, "a terminal is no place for an image's bytes");
    assert.equal(shown.stdout, "");
  });

  test("the trace has a link into the studio that the pipeline serves, and none where it has no traces", async (t) => {
    for (const hasTraces of [true, false]) {
      const answer = () => ({
        traceId,
        image: { data: png, contentType: "image/png", fileSize: png.length },
      });
      const { url } = await startPipeline(t, answer, { hasTraces });
      const link = hasTraces ? `${url}/#trace=${traceId}\n` : "";
      const { stdout } = await generate(url);
      assert.ok(stdout.endsWith(`, seed 0\ntrace ${traceId}\n${link}`), stdout);
    }
  });

  test("generate fetches an image from another server with a warning", async (t) => {
    const other = await startWith(t);
    const { url } = await startWith(t, { url: `${other.url}/elsewhere.png` });
    const { out, stderr } = await generate(url, "--quiet");
    assert.deepEqual(await readFile(out), png);
    assert.equal(stderr, `throughline: the image is fetched from ${other.url}, not from ${url}\n`);
  });

  test("generate follows no redirect", async (t) => {
    const other = await startWith(t);
    const { url, serve } = await startWith(t);
    serve((_request, response) => {
      response.statusCode = 302;
      response.setHeader("location", `${other.url}/secret`);
      response.end();
    });
    assert.match((await generate(url)).message, /^cannot fetch the image from \S+: unexpected redirect$/);
    assert.deepEqual(other.paths, []);
  });

  test("generate fetches http and https URLs only", async (t) => {
    for (const [responseValue, shown] of [
      ["file:///etc/hostname", "file:///etc/hostname"],
      ["blob:http://x/1", "blob:http://x/1"],
      ["\u001b]0;owned\u0007", "\ufffd]0;owned\ufffd"],
    ] as const) {
      const { url } = await startWith(t, { url: responseValue });
      const message = `the response says that the image is at "${shown}", which is no http(s) URL`;
      assert.equal((await generate(url)).message, message);
    }
  });

  test("generate writes no file whose first bytes do not match its type", async (t) => {
    const page = Buffer.from("<html>a page</html>");
    for (const contentType of ["image/png", "image/jpeg", "image/webp"]) {
      const { url, serve } = await startWith(t, { contentType, fileSize: page.length });
      serve((_request, response) => void response.end(page));
      assert.equal((await generate(url)).message, `the image should be ${contentType} and is something else`);
    }
    const { url, paths } = await startWith(t, { contentType: "text/\u001b[2Jhtml" });
    assert.match((await generate(url)).message, /"text\/\ufffd\[2Jhtml", which is not an image format here$/);
    assert.deepEqual(paths, []);
  });

  test("generate stops reading an image that is longer than announced", async (t) => {
    const { url, serve } = await startWith(t);
    const left = new Promise<void>((resolve) => {
      serve((_request, response) => {
        const body: Writable = response;
        body.on("close", resolve);
        const more = () => {
          while (!body.destroyed && body.write(Buffer.alloc(65_536))) {
            // Until the connection is full.
          }
        };
        body.on("drain", more);
        more();
      });
    });
    assert.match((await generate(url)).message, /: it has more than the 28 bytes that it should have$/);
    await left;
  });

  test("generate does not fetch an image over the size limit", async (t) => {
    const { url, paths } = await startWith(t, { fileSize: 64 * 1024 * 1024 + 1 });
    const message = "the image should have 67108865 bytes, and 67108864 are the most";
    assert.equal((await generate(url)).message, message);
    assert.deepEqual(paths, []);
  });

  test("generate says why the defaults of a distilled model were taken, and prints no control characters", async (t) => {
    const { url } = await startPipeline(t, () => ({
      image: { contentType: "image/png", fileSize: png.length, url: `data:image/png;base64,${png.toString("base64")}` },
      seed: 7,
      settings: { numInferenceSteps: 4, guidanceScale: 0 },
      defaultsReason: "its name or metadata says \u001b[31mTurbo",
    }));
    const { stdout, message } = await generate(url);
    assert.equal(message, "");
    assert.match(stdout, /seed 7\n4 steps at guidance 0; the model is distilled: its name or metadata says .*Turbo\n/);
    assert.ok(!stdout.includes("\u001b"));
  });

  test("generate applies the request timeout to the image", async (t) => {
    const { url, serve } = await startWith(t);
    serve((_request, response: Writable) => void response.write(png.subarray(0, 9)));
    assert.match((await generate(url, "--timeout", "5")).message, /: the time for the request is over$/);
  });

  test("generate rejects a response message over the size limit unread", async (t) => {
    const server = createServer((_request, response) => {
      response.writeHead(200, { "content-type": "application/connect+proto" });
      // The head of a message of 200 MiB.
      response.end(Buffer.from("000c800000", "hex"));
    });
    assert.match((await generate((await listenOnLoopback(t, server)).url)).message, /RESOURCE_EXHAUSTED/);
  });

  test("generate removes control characters from errors and traces", async (t) => {
    const failing = await startPipeline(t, () => {
      throw new ConnectError(`\u001b]0;owned\u0007\u009b2J\u202e${"x".repeat(5000)}`, Code.InvalidArgument);
    });
    const { message } = await generate(failing.url);
    assert.match(message, /answered INVALID_ARGUMENT: \ufffd\]0;owned\ufffd{2}2J\ufffdx+…$/);
    assert.ok(message.length < 2000);

    for (const responseValue of ["\u001b[2J", traceId.toUpperCase(), `${traceId}\n`, ""]) {
      const { url } = await startPipeline(t, () => ({
        traceId: responseValue,
        image: {
          url: `data:image/png;base64,${png.toString("base64")}`,
          contentType: "image/png",
          fileSize: png.length,
        },
      }));
      assert.match((await generate(url)).stdout, /, 28 bytes, seed 0\n$/);
      assert.equal(JSON.parse((await generate(url, "--json")).stdout).traceId, "");
    }
  });

  const contractSpans = [
    "image-pipeline",
    "preprocess-prompt",
    "call-inference-worker",
    "inference",
    "diffusion",
    "upload",
  ].map((name) => makeSpan({ traceId, name, endMs: 10 }));

  test("generate shows the trace of a collector, as JSON with --collector and --json", async (t) => {
    const { url } = await startWith(t);
    const collector = await startCollector(t, contractSpans);
    const shown = await generate(url, "--collector", collector.url);
    assert.equal(shown.stderr, "");
    const [image, empty, trace, ...tree] = shown.stdout.trimEnd().split("\n");
    assert.match(image ?? "", /seed 0$/);
    assert.deepEqual([empty, trace], ["", `trace ${traceId}`]);
    assert.deepEqual(tree.map((line) => line.split(" ")[0]).sort(), contractSpans.map(({ name }) => name).sort());

    const responseValue = JSON.parse((await generate(url, "--collector", collector.url, "--json")).stdout);
    assert.deepEqual(Object.keys(responseValue), ["traceId", "seed", "image", "spans"]);
    assert.equal(responseValue.spans.length, 6);
    assert.deepEqual(Object.keys(JSON.parse((await generate(url, "--json")).stdout)), ["traceId", "seed", "image"]);
  });

  test("generate waits only briefly for an incomplete or missing trace", async (t) => {
    const { url } = await startWith(t);
    const collector = await startCollector(t, contractSpans.slice(0, 2));
    const { code, stdout } = await generate(url, "--collector", collector.url);
    assert.equal(code, 0);
    assert.match(stdout, /\nimage-pipeline .*\npreprocess-prompt .*\n$/);
    const away = await generate(url, "--collector", "http://127.0.0.1:1");
    assert.equal(away.code, 0);
    assert.match(away.stdout, new RegExp(`seed 0\ntrace ${traceId}\n$`));
    assert.match(away.stderr, /^throughline: no trace: cannot reach http:\/\/127\.0\.0\.1:1: .*\n$/);
  });

  test("generate shows the image inline on terminals that support it only", async (t) => {
    const { url } = await startWith(t, { width: 64, height: 64 });
    const data = `${png.toString("base64")}`;
    const terminal = { isTTY: true, environment: { TERM: "xterm-kitty", NO_COLOR: "1" } };
    const shown = await generateWith(terminal, url);
    const sequence = `\u001b_Ga=T,f=100,q=2,r=16,m=0;${data}\u001b\\\n`;
    assert.ok(shown.stdout.startsWith(sequence), JSON.stringify(shown.stdout));
    assert.doesNotMatch(shown.stdout.slice(sequence.length).replaceAll("\n", ""), /\p{Cc}/u);
    for (const [run, ...args] of [
      [terminal, "--inline", "never"],
      [terminal, "--quiet"],
      [terminal, "--json"],
      [{ ...terminal, isTTY: false }],
      [{ ...terminal, environment: { TERM: "xterm-kitty", TMUX: "1" } }],
      [{ ...terminal, environment: { TERM: "xterm-kitty", THROUGHLINE_INLINE: "never" } }],
    ] as const) {
      assert.doesNotMatch((await generateWith(run, url, ...args)).stdout, /_G/);
    }
  });

  test("generate --quiet and --json write nothing to stderr, and only JSON to stdout", async (t) => {
    const { url } = await startWith(t);
    const terminal = { isTTY: true, environment: { FORCE_COLOR: "1" } };
    assert.equal((await generateWith(terminal, url, "--quiet")).stderr, "");
    const { stdout, stderr } = await generateWith(terminal, url, "--json");
    assert.equal(stderr, "");
    assert.equal(JSON.parse(stdout).traceId, traceId);
  });
});
