import assert from "node:assert/strict";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import * as z from "zod";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

/*
 * A checkpoint of SDXL's own size, made of zeros that take no space on the disk. training/make_full_size.py wrote the names and shapes.
 */

const shapesFile = new URL("../golden/graphs/full-size-shapes.json.gz", import.meta.url);
/** Bytes of the engine's own: 0.13 GB were seen. The weights as float32 are 13.9 GB, in their files 6.9 GB. */
const mostOwnBytes = 0.3e9;

async function writeSparseCheckpoint(path: string): Promise<number> {
  const content = gunzipSync(await readFile(shapesFile)).toString("utf8");
  const { shapes } = z.object({ shapes: z.record(z.string(), z.array(z.number())) }).parse(JSON.parse(content));
  let offset = 0;
  const header = Object.entries(shapes).map(([name, shape]) => {
    const start = offset;
    offset += 2 * shape.reduce((product, side) => product * side, 1);
    return [name, { dtype: "F16", shape, data_offsets: [start, offset] }];
  });
  const text = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = await open(path, "w");
  await file.write(Buffer.concat([length, text]));
  await file.truncate(length.length + text.length + offset);
  await file.close();
  return offset;
}

/** Memory that is no file's, in bytes. */
async function ownBytes(): Promise<number> {
  const [, kilobytes] = /^RssAnon:\s+(\d+) kB$/m.exec(await readFile("/proc/self/status", "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}

const reason =
  process.platform !== "linux"
    ? "reads /proc"
    : process.env["THOROUGH"] === "1"
      ? false
      : "takes seconds: THOROUGH=1 runs it";

describe("checkpoint of SDXL's own size", { skip: reason }, () => {
  it("opens over its file of 7 GB with less than 0.3 GB of its own", async () => {
    const file = join(await temporaryFolder(), "full-size.safetensors");
    assert.ok((await writeSparseCheckpoint(file)) > 6.9e9);
    const before = await ownBytes();
    const engine = await loadSdxlEngine({ modelFolder: file, precision: "float16" });
    const own = (await ownBytes()) - before;
    await engine.release();
    assert.match(engine.notes.precision, /^weights in their files/);
    assert.ok(engine.notes.weights !== undefined && engine.notes.weights.parameters > 3.4e9);
    assert.ok(own < mostOwnBytes, `${(own / 1e9).toFixed(2)} GB`);
  });
});
