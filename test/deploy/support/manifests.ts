import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import * as z from "zod";

/** Root of the checkout. */
export const root: string = fileURLToPath(new URL("../../..", import.meta.url));

/** Text of a file below the root. */
export const readText = (path: string): string => readFileSync(`${root}/${path}`, "utf8");

/** Content of a file with one YAML document. */
export const readYaml = (path: string): unknown => parse(readText(path), { merge: true });

const resource = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
});

/** A Kubernetes object. */
export type Resource = z.infer<typeof resource>;

/** The objects of a text with several YAML documents. */
export const resourcesOf = (text: string): readonly Resource[] =>
  parseAllDocuments(text).map((document) => resource.parse(document.toJS()));

/** The one object of a kind and name, in a shape. */
export function find<Shape extends z.ZodType>(
  resources: readonly Resource[],
  kind: string,
  name: string,
  shape: Shape,
): z.infer<Shape> {
  const found = resources.filter((each) => each.kind === kind && each.metadata.name === name);
  if (found.length !== 1) {
    throw new Error(`${found.length} of ${kind} ${name}`);
  }
  return shape.parse(found[0]);
}

const probeOf = z.object({ port: z.number() });

/** What the tests read of a Deployment. */
export const deployment = z.object({
  spec: z.object({
    strategy: z.object({ rollingUpdate: z.object({ maxUnavailable: z.number() }) }),
    template: z.object({
      metadata: z.object({ labels: z.record(z.string(), z.string()) }),
      spec: z.object({
        terminationGracePeriodSeconds: z.int(),
        enableServiceLinks: z.boolean(),
        automountServiceAccountToken: z.boolean(),
        securityContext: z.object({ runAsNonRoot: z.boolean(), runAsUser: z.number() }),
        topologySpreadConstraints: z.array(z.object({ topologyKey: z.string() })),
        containers: z.tuple([
          z.object({
            image: z.string(),
            args: z.array(z.string()),
            env: z.array(z.object({ name: z.string(), value: z.string().optional() })),
            envFrom: z.array(z.object({ configMapRef: z.object({ name: z.string() }) })).default([]),
            ports: z.array(z.object({ name: z.string(), containerPort: z.number() })),
            startupProbe: z.object({ grpc: probeOf, periodSeconds: z.number(), failureThreshold: z.number() }),
            readinessProbe: z.object({ grpc: probeOf, periodSeconds: z.number() }),
            livenessProbe: z.object({ httpGet: probeOf.extend({ path: z.string() }), periodSeconds: z.number() }),
            lifecycle: z.object({ preStop: z.object({ sleep: z.object({ seconds: z.int() }) }) }),
            securityContext: z.object({
              readOnlyRootFilesystem: z.literal(true),
              allowPrivilegeEscalation: z.literal(false),
              capabilities: z.object({ drop: z.tuple([z.literal("ALL")]) }),
            }),
            resources: z.object({
              requests: z.record(z.string(), z.string()),
              limits: z.record(z.string(), z.string()),
            }),
          }),
        ]),
      }),
    }),
  }),
});

/** What the tests read of a Service. */
export const service = z.object({
  spec: z.object({
    clusterIP: z.string().optional(),
    selector: z.record(z.string(), z.string()),
    ports: z.array(z.object({ name: z.string(), port: z.number(), targetPort: z.string(), appProtocol: z.string() })),
  }),
});

const peer = z.object({
  podSelector: z.object({ matchLabels: z.record(z.string(), z.string()).optional() }).optional(),
  namespaceSelector: z.object({ matchLabels: z.record(z.string(), z.string()) }).optional(),
});
const ports = z.array(z.object({ port: z.number() }));

/** What the tests read of a NetworkPolicy. */
export const networkPolicy = z.object({
  spec: z.object({
    podSelector: z.object({
      matchLabels: z.record(z.string(), z.string()).optional(),
      matchExpressions: z.array(z.object({ values: z.array(z.string()) })).optional(),
    }),
    policyTypes: z.array(z.enum(["Ingress", "Egress"])),
    ingress: z.array(z.object({ from: z.array(peer).optional(), ports })).optional(),
  }),
});
