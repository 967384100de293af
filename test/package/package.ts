import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { build } from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { makeStrangerProject, type StrangerProject } from "./stranger-project.js";
import { packPackage, type Tarball } from "./tarball.js";

/*
 * What a stranger gets: the package is packed, checked, installed in an empty project, compiled against and run there. Without a network.
 * `npm run test:package`.
 */

const compiler = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));
let tarball: Tarball;
let stranger: StrangerProject;

before(async () => {
  tarball = await packPackage();
  stranger = await makeStrangerProject(tarball.folder);
});

after(async () => {
  await stranger?.remove();
  await tarball?.remove();
});

test("the tarball holds what is used, and nothing of the workshop", () => {
  const { files, bytes } = tarball;
  for (const file of [
    "LICENSE",
    "NOTICE",
    "README.md",
    "SECURITY.md",
    "docs/README.md",
    "models/emoji-xl/unet/model.onnx",
    "dist/page/index.html",
  ]) {
    assert.ok(files.includes(file), `${file} is missing`);
  }
  const tops = new Set(files.map((file) => file.split("/")[0]));
  const wanted = [
    "LICENSE",
    "NOTICE",
    "README.md",
    "SECURITY.md",
    "dist",
    "docs",
    "examples",
    "models",
    "package.json",
    "proto",
    "src",
    "third_party",
  ];
  assert.deepEqual([...tops].sort(), wanted);
  assert.deepEqual(
    files.filter((file) => /\.test\.|\.tsbuildinfo$|(?:^|\/)\.|node_modules/.test(file)),
    [],
  );
  assert.ok(bytes.length < 40_000_000, `${bytes.length} bytes`);
});

test("every map leads to a file of the package", async () => {
  for (const file of tarball.files.filter((path) => path.endsWith(".map"))) {
    const path = join(tarball.folder, file);
    const { sources, sourcesContent } = JSON.parse(await readFile(path, "utf8"));
    for (const source of sourcesContent === undefined ? sources : []) {
      assert.ok(existsSync(join(dirname(path), source)), `${file} leads to ${source}`);
    }
  }
});

test("publint has nothing to say", async () => {
  const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(tarball.bytes).buffer } });
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  );
});

test("the types are right wherever ES modules can be imported", async () => {
  const analysis = await checkPackage(createPackageFromTarballData(new Uint8Array(tarball.bytes)));
  assert.ok(analysis.types);
  // The package is of ES modules alone: node10 knows no `exports`, and CommonJS has to import it dynamically.
  const problems = analysis.problems.filter(
    (problem) => !("resolutionKind" in problem && ["node10", "node16-cjs"].includes(problem.resolutionKind)),
  );
  assert.deepEqual(problems, []);
});

for (const project of ["bundler", "browser"]) {
  test(`a stranger's program compiles with the types of the libraries: ${project}`, async () => {
    await stranger.run(process.execPath, compiler, "-p", `tsconfig.${project}.json`);
  });
}

test("a stranger's page can be bundled for a browser, and takes only what it uses", async () => {
  const bundle = async (code: string) => {
    const { outputFiles } = await build({
      stdin: { contents: code, resolveDir: stranger.folder },
      bundle: true,
      minify: true,
      platform: "browser",
      write: false,
      logLevel: "silent",
    });
    return outputFiles[0]?.text.length ?? 0;
  };
  const page = await bundle('export * from "./browser.js"');
  const part = await bundle(
    'import { isErrorCode } from "throughline/otelconnect"; console.log(isErrorCode("client", 2))',
  );
  assert.ok(part < page / 10, `${part} of ${page} characters`);
});

test("a stranger's program compiles in Node's way, serves, calls, paints and traces", async () => {
  await stranger.run(process.execPath, compiler, "-p", "tsconfig.nodenext.json");
  const { trace, ...seen } = JSON.parse(
    await stranger.run(process.execPath, "out/main.js", join(stranger.folder, "pictures")),
  );
  assert.deepEqual(seen, {
    steps: ["1/4", "2/4", "3/4", "4/4"],
    seed: 7,
    contentType: "image/png",
    signature: "PNG",
    offered: ["createClientInterceptor", "runApp", "traceIdOf"],
  });
  const six = ["call-inference-worker", "diffusion", "image-pipeline", "inference", "preprocess-prompt", "upload"];
  assert.deepEqual(trace, [...six, "call-image-pipeline", "front", "pass-on"].sort());
});

test("npx throughline says what it can", async () => {
  assert.match(await stranger.run("npx", "--no-install", "throughline", "--help"), /^Usage: throughline/m);
});

test("the command paints with the model of the package, offline", async () => {
  const output = await stranger.run(
    "npx",
    "--no-install",
    "throughline",
    "demo",
    "a red heart",
    "--steps",
    "2",
    "--out",
    "heart.png",
  );
  assert.match(output, /^image-pipeline /m);
  const picture = await readFile(join(stranger.folder, "heart.png"));
  assert.equal(picture.toString("latin1", 1, 4), "PNG");
});
