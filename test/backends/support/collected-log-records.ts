import * as z from "zod";

/** Compared fields of a log record. */
export interface CollectedLogRecord {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly flags: number;
  readonly severityNumber: number;
  readonly severityText: string;
  readonly body: string;
}

const exportSchema = z.object({
  resourceLogs: z.array(
    z.object({
      resource: z.object({
        attributes: z.array(z.object({ key: z.string(), value: z.object({ stringValue: z.string().optional() }) })),
      }),
      scopeLogs: z.array(
        z.object({
          logRecords: z.array(
            z.object({
              traceId: z.string().default(""),
              spanId: z.string().default(""),
              flags: z.number().default(0),
              severityNumber: z.number(),
              severityText: z.string(),
              body: z.object({ stringValue: z.string() }),
            }),
          ),
        }),
      ),
    }),
  ),
});

/** The records of an export, in OTLP's JSON. */
export function logRecordsOf(json: string): CollectedLogRecord[] {
  return exportSchema.parse(JSON.parse(json)).resourceLogs.flatMap(({ resource, scopeLogs }) => {
    const service = resource.attributes.find(({ key }) => key === "service.name")?.value.stringValue ?? "";
    return scopeLogs.flatMap(({ logRecords }) =>
      logRecords.map(({ body, ...record }) => ({ service, ...record, body: body.stringValue })),
    );
  });
}
