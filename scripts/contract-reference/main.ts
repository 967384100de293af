import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { contractPage } from "./contract-page.js";

/*
 * Writes the reference of the contract, below the mark in docs/contract.md, from the comments and rules of the .proto files:
 * `npm run docs`.
 */

const page = "docs/contract.md";
const mark = "<!-- made by npm run docs -->\n";

/** What a caller opens first comes first. */
const order = [
  "throughline/v1/pipeline",
  "throughline/v1/job",
  "throughline/v1/worker",
  "throughline/v1/registry",
  "throughline/v1/image",
  "throughline/studio/v1/studio",
];

const descriptors = execFileSync("buf", ["build", "-o", "-#format=binpb"], { maxBuffer: 2 ** 26 });
const own = [...createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors)).files].filter(({ name }) =>
  name.startsWith("throughline/"),
);
const unplaced = own.filter(({ name }) => !order.includes(name));
if (unplaced.length > 0) {
  throw new Error(`no place yet for ${unplaced.map(({ name }) => name).join(", ")}`);
}
own.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));

const [introduction, ...rest] = readFileSync(page, "utf8").split(mark);
if (introduction === undefined || rest.length !== 1) {
  throw new Error(`${page} must hold the mark once: ${mark}`);
}
writeFileSync(page, `${introduction}${mark}\n${contractPage(own)}`);
