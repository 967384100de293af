import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as z from "zod";
import { roles } from "../../deploy/docker/roles.js";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { steadyPort } from "../support/steady-port.js";
import { describeComposeServices } from "./compose-services.js";
import { buildCheckout, filesBelow, megabytes, stageTree } from "./support/build-trees.js";
import { commandLine as main, runContained, startService, whyNoContainer } from "./support/container.js";
import { lastInstruction } from "./support/dockerfile.js";

const quiet = { THROUGHLINE_HOST: "127.0.0.1", ENABLE_TRACING: "false", NODE_ENV: "production" };
const manifest = z.object({ dependencies: z.record(z.string(), z.string()) });

/** The images' trees, made by the Dockerfile's own commands. */
export function describeTrees(): void {
  suite("trees of the images", { timeout: 900_000 }, () => {
    let folder = "";
    const trees = new Map<string, string>();
    const treeOf = (role: string) => trees.get(role) ?? assert.fail(`no tree of ${role}`);
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), "throughline-trees-"));
      const checkout = join(folder, "checkout");
      await buildCheckout(checkout);
      for (const role of ["pipeline", "worker-cpu"]) {
        trees.set(role, await stageTree(checkout, role, join(folder, role)));
      }
    });
    after(() => rmSync(folder, { recursive: true, force: true }));

    test("pipeline has no inference engine, no image codec and no model", (t) => {
      const tree = treeOf("pipeline");
      const files = filesBelow(tree);
      assert.deepEqual(
        files.filter((name) =>
          /onnxruntime|node_modules\/(?:sharp|@img|@huggingface)\/|\.safetensors$|^models\//.test(name),
        ),
        [],
      );
      t.diagnostic(`pipeline: ${megabytes(tree).toFixed(0)} MB, ${files.length} files`);
    });

    test("worker has the model, and onnxruntime for this machine only", (t) => {
      const tree = treeOf("worker-cpu");
      const files = filesBelow(tree);
      assert.ok(files.includes("models/emoji-xl/unet/diffusion_pytorch_model.safetensors"));
      const builds = files.filter((name) => name.startsWith("node_modules/onnxruntime-node/bin/"));
      assert.ok(builds.length > 0);
      assert.ok(
        builds.every((name) => name.includes(`/${process.platform}/${process.arch}/`)),
        builds.join(", "),
      );
      t.diagnostic(`worker-cpu: ${megabytes(tree).toFixed(0)} MB, ${files.length} files`);
    });

    for (const role of ["pipeline", "worker-cpu"]) {
      test(`${role} has neither types nor maps`, () => {
        const unused = filesBelow(treeOf(role)).filter((name) => /\.(?:d\.[cm]?ts|map)$/.test(name));
        assert.deepEqual(unused, []);
      });

      test(`every package and command of ${role} can be loaded`, { skip: whyNoContainer }, async () => {
        const tree = treeOf(role);
        const { dependencies } = manifest.parse(JSON.parse(readFileSync(join(tree, "package.json"), "utf8")));
        const code = `for (const name of ${JSON.stringify(Object.keys(dependencies))}) await import(name);`;
        const script = 'cd /app && exec node --input-type=module -e "$0"';
        const loaded = await runContained(tree, ["sh", "-c", script, code]);
        assert.equal(loaded.end, 0, loaded.output);
        for (const command of roles[role]?.commands ?? []) {
          const help = await runContained(tree, [...main, command, "--help"]);
          assert.match(help.output, new RegExp(`^Usage: throughline ${command} `));
          const module = `import(${JSON.stringify(`/app/dist/cli/commands/${command}.js`)})`;
          const imported = await runContained(tree, ["node", "-e", module]);
          assert.equal(imported.end, 0, imported.output);
        }
      });
    }

    test("a command that an image does not have fails with those that it has", { skip: whyNoContainer }, async () => {
      const { end, output } = await runContained(treeOf("pipeline"), [...main, "worker"]);
      assert.equal(end, 1);
      assert.match(output, /^throughline: this image has the commands pipeline, jobs, apps, keys;/);
    });

    test("containers' root is read-only, and their user has no rights", { skip: whyNoContainer }, async () => {
      const probe = "id -u; touch /app/x; touch /x; touch /tmp/x && echo written; grep CapEff /proc/self/status";
      const { output } = await runContained(treeOf("pipeline"), ["sh", "-c", probe]);
      assert.match(output, /^10001$/m);
      assert.match(output, /\/app\/x'?: Read-only file system/);
      assert.match(output, /\/x'?: Read-only file system/);
      assert.match(output, /^written$/m);
      assert.match(output, /CapEff:\s+0{16}/);
    });

    test("pipeline and worker generate an image and run a job, and end with 0", { skip: whyNoContainer }, async (t) => {
      const [workerPort, pipelinePort] = [await steadyPort(), await steadyPort()];
      const settings = {
        ...quiet,
        THROUGHLINE_WORKER_PORT: `${workerPort}`,
        THROUGHLINE_PIPELINE_PORT: `${pipelinePort}`,
      };
      const isHealthy = async (role: "worker" | "pipeline") => {
        const check =
          lastInstruction(role === "worker" ? "worker-cpu" : role, "HEALTHCHECK")?.split(" CMD ")[1] ?? "[]";
        const command = z.array(z.string()).parse(JSON.parse(check));
        return (await runContained(treeOf("pipeline"), command, settings)).end === 0;
      };
      assert.equal(await isHealthy("worker"), false);

      const worker = startService(t, treeOf("worker-cpu"), ["worker"], { ...settings, THROUGHLINE_DEVICE: "cpu" });
      await worker.waitFor(/is ready at/);
      assert.equal(await isHealthy("worker"), true);
      const pipeline = startService(t, treeOf("pipeline"), ["pipeline"], {
        ...settings,
        THROUGHLINE_WORKERS: `local/text-to-image-worker=127.0.0.1:${workerPort}`,
        THROUGHLINE_JOBS: "/tmp/jobs",
        THROUGHLINE_STUDIO: "true",
      });
      await pipeline.waitFor(/is ready at/);
      assert.equal(await isHealthy("pipeline"), true);

      const url = `http://127.0.0.1:${pipelinePort}`;
      const transport = createGrpcTransport({ baseUrl: url });
      const request = { prompt: "a red heart", options: { numInferenceSteps: 2, delivery: Delivery.INLINE } };
      const { image } = await createClient(ImagePipelineService, transport).generate(request);
      assert.deepEqual([...(image?.data ?? []).slice(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
      const jobs = createClient(JobService, transport);
      const { job } = await jobs.createJob({ work: { case: "generate", value: request } });
      let last: JobState | undefined;
      for await (const { job: current } of jobs.watchJob({ id: job?.id ?? "" })) {
        last = current?.state;
      }
      assert.equal(last, JobState.SUCCEEDED);
      assert.match(await (await fetch(url)).text(), /<title>/);

      for (const running of [pipeline, worker]) {
        running.process.kill("SIGTERM");
        assert.equal(await running.ended, 0, running.output());
        assert.doesNotMatch(running.output(), /has no effect|EROFS|EACCES/);
      }
    });

    describeComposeServices(treeOf);
  });
}
