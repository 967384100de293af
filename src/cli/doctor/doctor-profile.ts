import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/** What onnxruntime writes of each kernel that it ran; other events have no provider. */
const profileEvents = z.array(
  z.object({
    name: z.string(),
    args: z.object({ provider: z.string().optional(), node_index: z.string().optional() }).optional(),
  }),
);

/**
 * Counts the nodes that ran on each execution provider, over all profiles of a folder, the most first. A node that ran several times
 * counts once.
 */
export async function countNodes(profileFolder: string): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const file of await readdir(profileFolder)) {
    const nodes = new Map<string, string>();
    for (const { name, args } of profileEvents.parse(JSON.parse(await readFile(join(profileFolder, file), "utf8")))) {
      if (args?.provider !== undefined && name.endsWith("_kernel_time")) {
        nodes.set(`${args.node_index} ${name}`, args.provider);
      }
    }
    for (const provider of nodes.values()) {
      counts.set(provider, (counts.get(provider) ?? 0) + 1);
    }
  }
  return new Map([...counts].sort(([, a], [, b]) => b - a));
}
