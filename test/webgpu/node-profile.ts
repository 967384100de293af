import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";

/** Nodes that ran in the sessions of a sub-model, by operator. */
export interface SessionNodes {
  readonly subModel: string;
  readonly onDevice: ReadonlyMap<string, number>;
  readonly onCpu: ReadonlyMap<string, number>;
}

const events = z.array(
  z.object({
    name: z.string(),
    args: z
      .object({ provider: z.string().optional(), op_name: z.string().optional(), node_index: z.string().optional() })
      .optional(),
  }),
);

/** Reads onnxruntime's profiles of a folder. A node that ran several times counts once. */
export async function readNodeProfiles(folder: string): Promise<readonly SessionNodes[]> {
  const sessions = new Map<string, { onDevice: Map<string, number>; onCpu: Map<string, number> }>();
  for (const file of (await readdir(folder)).sort()) {
    const subModel = file.replace(/_\d{4}-.*$/, "");
    const nodes = new Map<string, { readonly operator: string; readonly isOnCpu: boolean }>();
    for (const { name, args } of events.parse(JSON.parse(await readFile(join(folder, file), "utf8")))) {
      if (args?.provider !== undefined && name.endsWith("_kernel_time")) {
        const isOnCpu = args.provider === "CPUExecutionProvider";
        nodes.set(`${args.node_index} ${name}`, { operator: args.op_name ?? name, isOnCpu });
      }
    }
    const session = sessions.get(subModel) ?? { onDevice: new Map(), onCpu: new Map() };
    sessions.set(subModel, session);
    for (const { operator, isOnCpu } of nodes.values()) {
      const counts = isOnCpu ? session.onCpu : session.onDevice;
      counts.set(operator, (counts.get(operator) ?? 0) + 1);
    }
  }
  return [...sessions].map(([subModel, counts]) => ({ subModel, ...counts }));
}

/** One line, such as `unet: 638 nodes on the device, 20 on the CPU (Concat 18, Gather 2)`. */
export function describeNodes({ subModel, onDevice, onCpu }: SessionNodes): string {
  const sum = (counts: ReadonlyMap<string, number>): number =>
    [...counts.values()].reduce((all, count) => all + count, 0);
  const operators = [...onCpu].sort(([, a], [, b]) => b - a).map(([operator, count]) => `${operator} ${count}`);
  const list = operators.length === 0 ? "" : ` (${operators.join(", ")})`;
  return `${subModel}: ${sum(onDevice)} nodes on the device, ${sum(onCpu)} on the CPU${list}`;
}
