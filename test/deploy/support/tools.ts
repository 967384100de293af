import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import * as z from "zod";
import { runProgram } from "../../interop/support/run-program.js";
import { pythonEnvironment } from "../../support/python-environment.js";
import { root } from "./manifests.js";

/** A tool, or why it is not there. */
export type Tool = { readonly path: string } | { readonly missing: string };

/** Release of kubeconform. */
export const kubeconformVersion = "v0.8.0";
const cache = join(root, "node_modules/.cache/throughline-deploy");
const reasonOf = (error: unknown) => ({ missing: error instanceof Error ? error.message : String(error) });

/** Python with the checkers of requirements.txt. hadolint stands beside it. */
export async function findPython(): Promise<Tool> {
  try {
    return { path: await pythonEnvironment(fileURLToPath(new URL("../requirements.txt", import.meta.url))) };
  } catch (error) {
    return reasonOf(error);
  }
}

/** `kubectl`, whose `kustomize` needs no cluster. */
export async function findKubectl(): Promise<Tool> {
  const { code } = await runProgram("kubectl", ["version", "--client"]);
  return code === 0 ? { path: "kubectl" } : { missing: "kubectl is not installed" };
}

/** `kubeconform`, built once from the Go proxy. */
export async function findKubeconform(): Promise<Tool> {
  const folder = join(cache, kubeconformVersion);
  const path = join(folder, "kubeconform");
  const started = await runProgram(path, ["-v"]);
  if (started.code === 0) {
    return { path };
  }
  mkdirSync(folder, { recursive: true });
  process.stdout.write(`building kubeconform ${kubeconformVersion}, once\n`);
  const source = `github.com/yannh/kubeconform/cmd/kubeconform@${kubeconformVersion}`;
  const built = await runProgram("go", ["install", source], { env: { GOBIN: folder }, timeoutMs: 480_000 });
  return built.code === 0 ? { path } : { missing: built.errorCode === "ENOENT" ? "Go is not installed" : built.tail };
}

/**
 * `promtool` of Debian's package, downloaded once and unpacked into the cache, or the one that is installed. Any version since 2.42 will do.
 */
export async function findPromtool(): Promise<Tool> {
  if ((await runProgram("promtool", ["--version"])).code === 0) {
    return { path: "promtool" };
  }
  const folder = join(cache, "prometheus");
  const path = join(folder, "usr/bin/promtool");
  if ((await runProgram(path, ["--version"])).code === 0) {
    return { path };
  }
  mkdirSync(folder, { recursive: true });
  process.stdout.write("downloading Debian's package prometheus, once\n");
  const downloaded = await runProgram("apt-get", ["download", "prometheus"], { cwd: folder, timeoutMs: 120_000 });
  const name = readdirSync(folder).find((each) => each.endsWith(".deb"));
  if (downloaded.code !== 0 || name === undefined) {
    return { missing: "promtool is not installed, and apt-get cannot download Debian's package prometheus" };
  }
  const unpacked = await runProgram("dpkg", ["-x", name, "."], { cwd: folder, timeoutMs: 120_000 });
  return unpacked.code === 0 ? { path } : { missing: unpacked.tail };
}

/** Folder of a Go module's files, downloaded from the Go proxy. */
export async function goModule(name: string): Promise<Tool> {
  const { code, errorCode, stdout, tail } = await runProgram("go", ["mod", "download", "-json", name], {
    cwd: dirname(root),
    timeoutMs: 300_000,
  });
  if (code !== 0) {
    return { missing: errorCode === "ENOENT" ? "Go is not installed" : tail };
  }
  return { path: z.object({ Dir: z.string() }).parse(JSON.parse(stdout.toString())).Dir };
}

/** The modules with the definitions of the kinds that Kubernetes itself does not have, and where they stand in them. */
const definitions = [
  { module: "sigs.k8s.io/gateway-api@v1.6.3", folder: "config/crd/standard" },
  { module: "github.com/kedacore/keda/v2@v2.21.0", folder: "config/crd/bases" },
  { module: "github.com/prometheus-operator/prometheus-operator@v0.85.0", folder: "example/prometheus-operator-crd" },
] as const;

const definition = z.object({
  kind: z.literal("CustomResourceDefinition"),
  spec: z.object({
    group: z.string(),
    names: z.object({ kind: z.string() }),
    versions: z.array(z.object({ name: z.string(), schema: z.object({ openAPIV3Schema: z.unknown() }) })),
  }),
});

/** Writes the schemas of those kinds as JSON Schema, and returns the pattern by which kubeconform finds them. */
export async function writeSchemas(): Promise<Tool> {
  const folder = join(cache, "schemas");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const { module, folder: place } of definitions) {
    const found = await goModule(module);
    if ("missing" in found) {
      return found;
    }
    for (const name of readdirSync(join(found.path, place)).filter((each) => each.endsWith(".yaml"))) {
      for (const document of parseAllDocuments(readFileSync(join(found.path, place, name), "utf8"))) {
        const parsed = definition.safeParse(document.toJS());
        for (const { name: version, schema } of parsed.data?.spec.versions ?? []) {
          const { group, names } = parsed.data?.spec ?? {};
          const file = `${group}_${names?.kind}_${version}.json`.toLowerCase();
          writeFileSync(join(folder, file), JSON.stringify(strict(schema.openAPIV3Schema, true)));
        }
      }
    }
  }
  return { path: `${folder}/{{.Group}}_{{.ResourceKind}}_{{.ResourceAPIVersion}}.json` };
}

const node = z.record(z.string(), z.unknown());

/** Rejects fields that a schema does not have, as the API server's strict validation does. The root has the fields of every object. */
function strict(schema: unknown, isRoot = false): unknown {
  if (Array.isArray(schema)) {
    return schema.map((each) => strict(each));
  }
  const parsed = node.safeParse(schema);
  if (!parsed.success) {
    return schema;
  }
  const copy: Record<string, unknown> = Object.fromEntries(
    Object.entries(parsed.data).map(([key, value]) => [
      key,
      key === "properties" ? strictProperties(value) : strict(value),
    ]),
  );
  const isOpen = copy["additionalProperties"] !== undefined || copy["x-kubernetes-preserve-unknown-fields"] === true;
  const isMetadata = !isRoot && copy["properties"] === undefined;
  return copy["type"] === "object" && !isOpen && !isMetadata ? { ...copy, additionalProperties: false } : copy;
}

const strictProperties = (properties: unknown) =>
  Object.fromEntries(Object.entries(node.parse(properties)).map(([name, schema]) => [name, strict(schema)]));
