import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, before, suite, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { build } from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { documentedPrograms } from "../support/documented-block.js";
import { installationOf } from "./installed.js";
import { oldCompiler } from "./old-compilers.js";
import { type Packed, packAll } from "./packed.js";
import { makeTestProject, type TestProject } from "./test-project.js";

/*
 * What users get: each package is packed, checked, installed in an empty project, compiled against and run there. Without a network, but for
 * the first run with the lowest versions of TypeScript, which is skipped where they cannot be installed.
 * `npm run test:package`.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const compiler = join(root, "node_modules/typescript/bin/tsc");
let packed: Packed;

before(async () => {
  packed = await packAll();
});

after(async () => {
  await packed?.remove();
});

/** Sizes in the output, in decimal units, as npm prints them. */
const kilobytes = (bytes: number): string => `${(bytes / 1_000).toFixed(0)} kB`;

for (const name of ["throughline", "@throughline/client", "@throughline/otelconnect"]) {
  suite(name, () => {
    test("every map leads to a file of the package", async () => {
      const { folder, files } = packed.get(name);
      const maps = files.filter((path) => path.endsWith(".map"));
      assert.ok(maps.length > 0);
      for (const file of maps) {
        const path = join(folder, file);
        const { sources, sourcesContent } = JSON.parse(await readFile(path, "utf8"));
        for (const source of sourcesContent === undefined ? sources : []) {
          assert.ok(existsSync(join(dirname(path), source)), `${file} leads to ${source}`);
        }
      }
    });

    test("publint reports nothing", async () => {
      const { messages, pkg } = await publint({
        pack: { tarball: new Uint8Array(packed.get(name).bytes).buffer },
      });
      assert.deepEqual(
        messages.map((message) => formatMessage(message, pkg)),
        [],
      );
    });

    test("types resolve wherever ES modules can be imported", async () => {
      const analysis = await checkPackage(createPackageFromTarballData(new Uint8Array(packed.get(name).bytes)));
      assert.ok(analysis.types);
      // The package is of ES modules alone: node10 knows no `exports`, and CommonJS has to import it dynamically.
      const problems = analysis.problems.filter(
        (problem) => !("resolutionKind" in problem && ["node10", "node16-cjs"].includes(problem.resolutionKind)),
      );
      assert.deepEqual(problems, []);
    });

    test("the manifest is fit to publish, with no package that is not published", async () => {
      const manifest = JSON.parse(await readFile(join(packed.get(name).folder, "package.json"), "utf8"));
      for (const field of ["private", "scripts", "devDependencies", "overrides"]) {
        assert.equal(manifest[field], undefined, field);
      }
      const needed = Object.entries<string>({ ...manifest.dependencies, ...manifest.peerDependencies });
      assert.deepEqual(
        needed.filter(([library, range]) => library.includes("throughline") || !/^\^?\d+\.\d+\.\d+$/.test(range)),
        [],
      );
    });
  });
}

/** Prints the sizes of a package and gives the packages that come with it. */
function printInstallation(t: TestContext, name: string): readonly string[] {
  const { folder, bytes } = packed.get(name);
  const { packages, bytes: installed } = installationOf(folder);
  t.diagnostic(
    `${name}: packed ${kilobytes(bytes.length)}, installed ${kilobytes(installed)} with ${packages.length} other packages`,
  );
  return packages;
}

suite("throughline in a project", () => {
  let project: TestProject;
  before(async () => {
    project = await makeTestProject(packed.get("throughline"), "throughline");
  });
  after(() => project?.remove());

  test("the tarball holds what users need, and nothing of the checkout's tooling", (t) => {
    const { files, bytes } = packed.get("throughline");
    for (const file of [
      "LICENSE",
      "NOTICE",
      "README.md",
      "SECURITY.md",
      "docs/README.md",
      "models/clip-tokenizer/merges.txt.gz",
      "models/emoji-xl/unet/diffusion_pytorch_model.safetensors",
      "dist/page/index.html",
    ]) {
      assert.ok(files.includes(file), `${file} is missing`);
    }
    const tops = new Set(files.map((file) => file.split("/")[0]));
    const wanted = [
      "CHANGELOG.md",
      "CONTRIBUTING.md",
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
    assert.ok(bytes.length < 42_000_000, `${bytes.length} bytes`);
    printInstallation(t, "throughline");
  });

  for (const resolution of ["bundler", "browser"]) {
    test(`a program compiles with the types of the libraries: ${resolution}`, async () => {
      await project.run(process.execPath, compiler, "-p", `tsconfig.${resolution}.json`);
    });
  }

  test("the programs in README.md and Getting started compile in strict TypeScript", async () => {
    const programs = ["README.md", "docs/getting-started.md"].flatMap(documentedPrograms);
    assert.ok(programs.length >= 5, `${programs.length} programs`);
    await mkdir(join(project.folder, "documented"));
    for (const [index, program] of programs.entries()) {
      await writeFile(join(project.folder, "documented", `${index}.ts`), program);
    }
    await project.run(process.execPath, compiler, "-p", "tsconfig.documented.json");
  });

  // The lowest versions that README.md names.
  for (const { version, documented, flags } of [
    {
      version: "5.0.2",
      documented: "≥ 5.0 with `skipLibCheck`",
      flags: ["--skipLibCheck"],
    },
    { version: "5.7.2", documented: "≥ 5.7 without", flags: [] },
  ]) {
    test(`programs compile with TypeScript ${version} (${documented})`, async (t) => {
      assert.ok((await readFile(join(root, "README.md"), "utf8")).includes(documented));
      const old = await oldCompiler(version);
      if ("missing" in old) {
        t.skip(old.missing);
        return;
      }
      const bundler = ["--module", "ESNext", "--moduleResolution", "Bundler"];
      for (const options of [
        ["tsconfig.nodenext.json"],
        ["tsconfig.nodenext.json", ...bundler],
        ["tsconfig.documented.json"],
      ]) {
        await project.run(process.execPath, old.path, "--noEmit", ...flags, "-p", ...options);
      }
    });
  }

  test("a page can be bundled for a browser, and takes only what it uses", async () => {
    const bundle = async (code: string) => {
      const { outputFiles } = await build({
        stdin: { contents: code, resolveDir: project.folder },
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

  test("a program compiles in Node's way, serves, calls, generates and traces", async () => {
    await project.run(process.execPath, compiler, "-p", "tsconfig.nodenext.json");
    const { trace, ...seen } = JSON.parse(
      await project.run(process.execPath, "out/main.js", join(project.folder, "images")),
    );
    assert.deepEqual(seen, {
      steps: ["1/4", "2/4", "3/4", "4/4"],
      seed: 7,
      contentType: "image/png",
      signature: "PNG",
      offered: ["createClientInterceptor", "createHealth", "runApp", "traceIdOf"],
    });
    const six = ["call-inference-worker", "diffusion", "image-pipeline", "inference", "preprocess-prompt", "upload"];
    assert.deepEqual(trace, [...six, "call-image-pipeline", "front", "pass-on"].sort());
  });

  test("npx throughline prints its help", async () => {
    assert.match(await project.run("npx", "--no-install", "throughline", "--help"), /^Usage: throughline/m);
  });

  test("the command generates with the model of the package, offline", async () => {
    const output = await project.run(
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
    const image = await readFile(join(project.folder, "heart.png"));
    assert.equal(image.toString("latin1", 1, 4), "PNG");
  });
});

suite("@throughline/client in a project", () => {
  test("it comes without an engine, image encoder, gRPC library or telemetry", (t) => {
    const wanted = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"];
    assert.deepEqual(printInstallation(t, "@throughline/client"), wanted);
  });

  test("a program compiles and generates an image over the network", async (t) => {
    const project = await makeTestProject(packed.get("@throughline/client"), "client");
    t.after(() => project.remove());
    const mesh = await createTestMesh({ wire: "port" });
    t.after(() => mesh.stop());
    await project.run(process.execPath, compiler, "-p", ".");
    assert.deepEqual(JSON.parse(await project.run(process.execPath, "out/main.js", mesh.pipelineUrl)), {
      typeName: "throughline.v1.ImagePipelineService",
      steps: [1, 2, 3, 4],
      seed: 7,
      contentType: "image/png",
    });
  });
});

suite("@throughline/otelconnect in a project", () => {
  test("it brings its peers alone", (t) => {
    const wanted = ["@bufbuild/protobuf", "@connectrpc/connect", "@opentelemetry/api"];
    assert.deepEqual(printInstallation(t, "@throughline/otelconnect"), wanted);
  });

  test("a server answers health checks and reflection, and both ends of a call are traced", async (t) => {
    const added = ["@connectrpc/connect-node", "@opentelemetry/sdk-trace-base"];
    const project = await makeTestProject(packed.get("@throughline/otelconnect"), "otelconnect", added);
    t.after(() => project.remove());
    await project.run(process.execPath, compiler, "-p", ".");
    const buf = join(root, "node_modules/@bufbuild/buf/bin/buf");
    const check = "grpc.health.v1.Health/Check";
    assert.deepEqual(JSON.parse(await project.run(process.execPath, "out/main.js", buf)), {
      before: 2,
      after: 1,
      spans: [`${check} 1`, `${check} 2`, `${check} 1`, `${check} 2`],
      foreign: { status: "SERVING" },
    });
  });
});
