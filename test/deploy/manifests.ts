import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { after, suite, test } from "node:test";
import * as z from "zod";
import { runProgram } from "../interop/support/run-program.js";
import { describeAlerts } from "./alerts.js";
import { deployment, find, readYaml, resourcesOf, root, service } from "./support/manifests.js";
import { readSettings } from "./support/settings.js";
import { findKubeconform, findKubectl, findPython, goModule, type Tool, writeSchemas } from "./support/tools.js";

/* npm run test:manifests: Dockerfile, Compose file, Kubernetes manifests and alert rules, as far as they can be checked without running them. */
const python = await findPython();
const kubectl = await findKubectl();
const kubeconform = await findKubeconform();
const schemas = await writeSchemas();
const compose = await goModule("github.com/compose-spec/compose-go/v2@v2.16.2");

/** Why a test is skipped, for `skip`; false where its tools are there. */
const whyNot = (...tools: readonly Tool[]) =>
  tools.flatMap((tool) => ("missing" in tool ? [tool.missing] : []))[0] ?? false;
const pathOf = (tool: Tool) => ("path" in tool ? tool.path : "");
const folder = mkdtempSync(join(tmpdir(), "throughline-deploy-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Overlays over components, and without secrets. */
const composed = new Map([
  ["all", ["gateway", "ingress", "monitoring", "keda"]],
  ["keda-prometheus", ["monitoring", "keda-prometheus"]],
]);
const kustomizations = ["overlays/dev", "overlays/gpu", ...composed.keys()];
const overlayOf = (base: string, components: readonly string[]) => `
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [${base}/base]
components: [${components.map((name) => `${base}/components/${name}`).join(", ")}]
`;

/** The objects of a kustomization as YAML. */
async function render(name: string): Promise<string> {
  const manifests = join(root, "deploy/kubernetes");
  let path = join(manifests, name);
  const components = composed.get(name);
  if (components !== undefined) {
    path = join(folder, name);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "kustomization.yaml"), overlayOf(relative(path, manifests), components));
  }
  const { code, stdout, tail } = await runProgram("kubectl", ["kustomize", path]);
  assert.equal(code, 0, tail);
  return stdout.toString();
}

/** Renders into a file, and returns its path. */
async function renderToFile(name: string): Promise<string> {
  const file = join(folder, `${name.replace("/", "-")}.yaml`);
  writeFileSync(file, await render(name));
  return file;
}

test("hadolint has nothing to say about the Dockerfile", { skip: whyNot(python) }, async () => {
  const hadolint = join(dirname(pathOf(python)), "hadolint");
  const { code, stdout, tail } = await runProgram(hadolint, [join(root, "deploy/docker/Dockerfile")]);
  assert.equal(code, 0, `${stdout}${tail}`);
});

test("compose file follows the Compose specification", { skip: whyNot(python, compose) }, async () => {
  const file = join(folder, "compose.json");
  const schema = join(pathOf(compose), "schema/compose-spec.json");
  const check = (content: unknown) => {
    writeFileSync(file, JSON.stringify(content));
    return runProgram(pathOf(python), ["-W", "ignore", "-m", "jsonschema", "--instance", file, schema]);
  };
  const content = z.record(z.string(), z.unknown()).parse(readYaml("deploy/compose.yaml"));
  const { code, tail } = await check(content);
  assert.equal(code, 0, tail);
  assert.equal((await check({ ...content, services: { pipeline: { imagee: "x" } } })).code, 1);
});

suite("Kubernetes manifests", () => {
  for (const name of kustomizations) {
    test(`${name} builds, with existing settings`, { skip: whyNot(kubectl) }, async (t) => {
      const resources = resourcesOf(await render(name));
      t.diagnostic(`${name}: ${resources.length} objects`);
      const maps = new Map(
        resources
          .filter(({ kind }) => kind === "ConfigMap")
          .map(({ metadata, ["data"]: data }) => [metadata.name, z.record(z.string(), z.string()).parse(data)]),
      );
      for (const app of ["image-pipeline", "text-to-image-worker"]) {
        const [{ args, env, envFrom, ports }] = find(resources, "Deployment", app, deployment).spec.template.spec
          .containers;
        const variables: Record<string, string> = Object.assign(
          {},
          ...envFrom.map(({ configMapRef }) => maps.get(configMapRef.name) ?? assert.fail(configMapRef.name)),
        );
        for (const { name: key, value } of env) {
          // A value of a Secret.
          variables[key] = value ?? (key === "THROUGHLINE_JOBS" ? "postgres://db.example.com/throughline" : "secret");
        }
        const settings = readSettings(args, variables);
        assert.deepEqual(
          ports.map(({ containerPort }) => containerPort),
          [settings.port, settings.metricsPort, ...(settings.kedaPort === undefined ? [] : [settings.kedaPort])],
        );
        const { spec } = find(resources, "Service", app, service);
        assert.ok(spec.ports.every(({ targetPort }) => ports.some((port) => port.name === targetPort)));
      }
    });

    for (const version of ["1.30", "1.37"]) {
      test(`${name} follows the schemas of Kubernetes ${version}`, { skip: whyNot(kubectl, python) }, async () => {
        const file = await renderToFile(name);
        const args = ["-m", "kubernetes_validate", "-k", version, "--strict", "--no-warn", file];
        const { code, stdout, tail } = await runProgram(pathOf(python), args, { timeoutMs: 120_000 });
        assert.equal(code, 0, `${stdout}${tail}`);
      });
    }
  }

  const tools = whyNot(kubectl, kubeconform, schemas);
  const core = ["ConfigMap", "Deployment", "Ingress", "Namespace", "NetworkPolicy", "PersistentVolumeClaim"];
  const skipped = [...core, "PodDisruptionBudget", "Secret", "Service", "ServiceAccount", "StatefulSet"].join(",");
  const conform = (file: string) =>
    runProgram(pathOf(kubeconform), [
      ...["-strict", "-summary", "-output", "json", "-schema-location", pathOf(schemas), "-skip", skipped, file],
    ]);
  const summary = z.object({ summary: z.object({ valid: z.number(), invalid: z.number(), errors: z.number() }) });

  for (const [name, count] of [
    ["overlays/gpu", 5],
    ["all", 5],
    ["keda-prometheus", 3],
  ] as const) {
    test(`${name} follows the definitions of Gateway API, KEDA and Prometheus Operator`, { skip: tools }, async (t) => {
      const { code, stdout } = await conform(await renderToFile(name));
      assert.equal(code, 0, stdout.toString());
      const { valid } = summary.parse(JSON.parse(stdout.toString())).summary;
      t.diagnostic(`${name}: ${valid} objects are valid`);
      assert.equal(valid, count);
    });
  }

  test("unknown field of a route is found", { skip: tools }, async () => {
    const file = join(folder, "wrong.yaml");
    const text = await render("all");
    writeFileSync(file, text.replaceAll("sectionName: https", "sectionNames: https"));
    const { code, stdout } = await conform(file);
    assert.equal(code, 1);
    assert.equal(summary.parse(JSON.parse(stdout.toString())).summary.invalid, 2);
  });
});

describeAlerts();
