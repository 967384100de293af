import * as z from "zod";
import { attributesSchema } from "./foreign-otlp-spans.js";

/** One data point as a foreign decoder sees it. */
export interface ForeignPoint {
  readonly service: string;
  readonly name: string;
  readonly unit: string;
  readonly kind: "sum" | "gauge" | "histogram";
  /** Of sums and histograms. */
  readonly temporality: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** A histogram's is how many values it has. */
  readonly value: number;
  /** Of a histogram. */
  readonly sum: number;
}

/** Data points of an `ExportMetricsServiceRequest` as protobufjs decodes it, with longs and enums as strings. */
export function metricsFromForeignRequest(request: unknown): ForeignPoint[] {
  return requestSchema.parse(request).resourceMetrics.flatMap(({ resource, scopeMetrics }) => {
    const service = String(Object.fromEntries(pairs(resource?.attributes ?? []))["service.name"] ?? "");
    return scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap(({ name, unit, data, ...kinds }) => {
        const found = kinds[data];
        return (found?.dataPoints ?? []).map((point) => ({
          service,
          name,
          unit,
          kind: data,
          temporality: found?.aggregationTemporality ?? "",
          attributes: Object.fromEntries(pairs(point.attributes)),
          value: "count" in point ? point.count : (point[point.value] ?? Number.NaN),
          sum: "count" in point ? point.sum : 0,
        }));
      }),
    );
  });
}

const pairs = (attributes: z.infer<typeof attributesSchema>) =>
  attributes.map(({ key, value }) => [key, value] as const);

const number = z.object({
  attributes: attributesSchema,
  value: z.enum(["asDouble", "asInt"]),
  asDouble: z.number().optional(),
  asInt: z.coerce.number().optional(),
});
const histogram = z.object({ attributes: attributesSchema, count: z.coerce.number(), sum: z.number() });
const dataOf = <Point extends z.ZodType>(point: Point) =>
  z.object({ dataPoints: z.array(point), aggregationTemporality: z.string().optional() }).optional();

const requestSchema = z.object({
  resourceMetrics: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }).nullable(),
      scopeMetrics: z.array(
        z.object({
          metrics: z.array(
            z.object({
              name: z.string(),
              unit: z.string(),
              data: z.enum(["sum", "gauge", "histogram"]),
              sum: dataOf(number),
              gauge: dataOf(number),
              histogram: dataOf(histogram),
            }),
          ),
        }),
      ),
    }),
  ),
});
