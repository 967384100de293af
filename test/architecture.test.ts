import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

const src = fileURLToPath(new URL("../src", import.meta.url));

interface SourceFile {
  /** Path below src, with forward slashes. */
  readonly path: string;
  /** First folder of the path. */
  readonly part: string;
  readonly text: string;
  /** The text without comments, which may speak of what the code must not do. */
  readonly code: string;
  readonly lines: number;
  /** Parts of ours that it imports. */
  readonly parts: ReadonlySet<string>;
  /** Files of ours that it imports, below src. */
  readonly files: readonly string[];
  readonly packages: readonly string[];
}

const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .map((name) => name.split(sep).join("/"))
  .filter((name) => /\.tsx?$/.test(name) && !name.startsWith("gen/"))
  .map(read);

function read(path: string): SourceFile {
  const text = readFileSync(join(src, path), "utf8");
  const specifiers = [
    ...text.matchAll(/^(?:import|export)\b[^;]*?from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
  const own = specifiers
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) =>
      relative(src, join(src, dirname(path), specifier))
        .split(sep)
        .join("/")
        .replace(/\.js$/, ".ts"),
    )
    .map((file) => (existsSync(join(src, file)) ? file : `${file}x`));
  const part = (file: string) => file.split("/")[0] ?? "";
  return {
    path,
    part: part(path),
    text,
    code: text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*$/gm, ""),
    lines: text.split("\n").length,
    files: own,
    parts: new Set(own.map(part).filter((other) => other !== part(path))),
    packages: specifiers.filter((specifier) => !specifier.startsWith(".")),
  };
}

/** Files that every part may import. */
const shared = new Set(["request-limits.ts", "timer-limit.ts"]);

/** Which folder may import which. Add a new folder here. */
const allowed: Record<string, readonly string[]> = {
  cli: [
    "client",
    "fronts",
    "pipeline",
    "worker",
    "jobs",
    "scaler",
    "registry",
    "s3",
    "calls",
    "studio",
    "otlp-json",
    "app",
    "mesh",
    "trace",
    "engine",
    "image",
    "hub",
    "gen",
  ],
  server: ["fronts", "pipeline", "calls", "worker", "studio", "app", "mesh", "trace", "engine", "image"],
  contracts: ["gen"],
  testing: ["client", "pipeline", "worker", "app", "mesh", "trace", "engine", "image", "gen"],
  pipeline: ["calls", "app", "mesh", "trace", "otelconnect", "image", "gen"],
  jobs: ["calls", "app", "mesh", "trace", "otelconnect", "image", "gen"],
  scaler: ["calls", "mesh", "gen"],
  registry: ["mesh", "gen"],
  s3: ["image", "jobs"],
  calls: ["app", "gen"],
  fronts: ["mesh", "image", "gen"],
  worker: ["app", "mesh", "trace", "otelconnect", "engine", "image", "gen"],
  studio: ["mesh", "trace", "otelconnect", "connect-health", "gen"],
  client: ["gen"],
  "otlp-json": ["gen"],
  // Of `image`, what reads settings; the page's own build rejects what needs Node.
  page: ["client", "contracts", "otlp-json", "image", "gen"],
  app: ["mesh", "trace", "otelconnect", "connect-health"],
  mesh: ["otelconnect", "gen"],
  trace: ["otelconnect", "gen"],
  otelconnect: [],
  "connect-health": ["gen"],
  engine: [],
  image: ["gen"],
  hub: [],
};

test("imports between folders of src have one direction", () => {
  for (const file of files) {
    const may = shared.has(file.path) ? [] : allowed[file.part];
    assert.ok(may, `${file.path}: the folder ${file.part} is not listed`);
    for (const other of file.parts) {
      assert.ok(may.includes(other) || shared.has(other), `${file.path} imports ${other}, and ${file.part} may not`);
    }
  }
});

/** The folders of the mesh, from the bytes of a port to the apps of a directory. */
const allowedInMesh: Record<string, readonly string[]> = {
  "app-id.ts": [],
  errors: [],
  tls: [],
  port: ["tls"],
  access: ["port", "tls", "errors", "app-id.ts"],
  serve: ["access", "port", "errors"],
  grpc: ["tls", "errors"],
  balance: ["grpc", "errors"],
  directory: ["balance", "grpc", "access", "tls", "errors", "app-id.ts"],
};

test("imports between folders of the mesh have one direction", () => {
  const folder = (path: string) => path.slice("mesh/".length).split("/")[0] ?? "";
  for (const { path, files: imported } of files.filter(({ part }) => part === "mesh")) {
    const may = allowedInMesh[folder(path)];
    assert.ok(may, `${path} is in no listed folder of the mesh`);
    for (const other of imported.filter((file) => file.startsWith("mesh/"))) {
      const theirs = folder(other);
      assert.ok(theirs === folder(path) || may.includes(theirs), `${path} imports ${other}`);
    }
  }
});

test("imports have no cycle", () => {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): void => {
    assert.ok(!way.includes(path), `cycle: ${[...way, path].join(" → ")}`);
    if (!done.has(path)) {
      for (const next of byPath.get(path)?.files ?? []) {
        visit(next, [...way, path]);
      }
      done.add(path);
    }
  };
  for (const file of files) {
    visit(file.path, []);
  }
});

test("files are small, and none is named as a collection of utilities", () => {
  const sizes = files.map((file) => file.lines).sort((a, b) => a - b);
  const median = sizes[Math.floor(sizes.length / 2)] ?? 0;
  assert.ok(median <= 120, `the median file has ${median} lines`);
  for (const { path, lines } of files) {
    assert.ok(lines <= 350, `${path} has ${lines} lines`);
    assert.doesNotMatch(path, /(?:^|\/)(?:utils?|helpers?|common|misc|index)(?:\/|\.tsx?$)/);
  }
});

test("only the engine's sessions import onnxruntime, and only trace/telemetry/sdk.ts an OpenTelemetry SDK", () => {
  for (const { path, packages, files: imported } of files) {
    for (const name of packages) {
      if (name.startsWith("onnxruntime")) {
        assert.match(path, /^engine\/sessions/, `${path} imports ${name}`);
        assert.equal(imported[0], "engine/onnxruntime-telemetry.ts", `${path} loads ${name} with its telemetry on`);
      }
      if (name.startsWith("@opentelemetry/") && name !== "@opentelemetry/api") {
        assert.equal(path, "trace/telemetry/sdk.ts", `${path} imports ${name}`);
      }
    }
  }
});

test("the stack of the contract is depended on directly, and imported by src", () => {
  const stack = [
    ...["@grpc/grpc-js", "@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node", "onnxruntime-node"],
    ...["@opentelemetry/api", "@opentelemetry/sdk-node", "@opentelemetry/exporter-trace-otlp-grpc"],
  ];
  const { dependencies } = JSON.parse(readFileSync(join(src, "../package.json"), "utf8"));
  for (const name of stack) {
    assert.ok(name in dependencies, `${name} is no dependency`);
    const loads = new RegExp(`(?:from|import\\(|require\\()\\s*"${name}(?:/[^"]*)?"`);
    assert.ok(
      files.some(({ code }) => loads.test(code.replace(/^export type.*$/gm, ""))),
      `no file imports ${name}`,
    );
  }
});

test("otelconnect depends on its peers only and on no Node module; health and reflection depend on Connect only", () => {
  const needed = new Set(["@bufbuild/protobuf", "@connectrpc/connect", "@opentelemetry/api"]);
  for (const { path, part, packages } of files) {
    if (part === "otelconnect") {
      assert.deepEqual(
        packages.filter((name) => !needed.has(name)),
        [],
        path,
      );
    }
    if (part === "connect-health") {
      assert.deepEqual(
        packages.filter((name) => !/^(?:@bufbuild\/protobuf|@connectrpc\/connect|node:events)/.test(name)),
        [],
        path,
      );
    }
  }
});

test("only the command line reads the environment, and the engine sets the one variable that onnxruntime reads", () => {
  const telemetry = "engine/onnxruntime-telemetry.ts";
  for (const { path, code, packages } of files) {
    if (path === telemetry) {
      assert.equal(code.trim(), 'process.env["ORT_DISABLE_TELEMETRY"] = "1";');
    } else if (!path.startsWith("cli/")) {
      assert.doesNotMatch(code, /\bprocess\.env\b/, path);
      assert.ok(!packages.some((name) => /^(?:node:)?process$/.test(name)), `${path} imports the process`);
    }
  }
});

test("only errors use inheritance, and there are no default exports", () => {
  for (const { path, text, code } of files) {
    for (const [, base] of code.matchAll(/\bclass\s+\w+\s+extends\s+(\w+)/g)) {
      assert.equal(base, "Error", `${path}: a class extends ${base}`);
    }
    assert.doesNotMatch(code, /^export default|\bas any\b|: any\b/m, path);
    assert.doesNotMatch(text, /@ts-(?:ignore|expect-error|nocheck)/, path);
  }
});

test("no test file awaits at its top level after its first test: that one's end would be the file's, with its cleanup", () => {
  const tests = fileURLToPath(new URL(".", import.meta.url));
  const late = readdirSync(tests, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .filter((name) => {
      const [, ...afterFirst] = readFileSync(join(tests, name), "utf8").split(/^(?:describe|suite|test|it|for)\b/m);
      return afterFirst.some((part) =>
        /^(?:(?:export )?(?:const|let) .*)?\bawait\b/m.test(part.replace(/^ .*$/gm, "")),
      );
    });
  assert.deepEqual(late, []);
});
