import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { z } from "zod";
import { partialPackages } from "../packages/partial-packages.js";
import { billOfMaterials, type Dependency, exceptionsOf } from "./dependencies.js";

/** Names the works of others in this one, with their licences: the text of the file NOTICE. */
export async function makeNotice(root: string): Promise<string> {
  const { dependencies } = await billOfMaterials(root);
  return `${[
    "Throughline",
    await ofModels(root),
    await ofContracts(root),
    await ofPage(root),
    ofPackages(dependencies),
  ].join("\n\n")}\n`;
}

/** Folders of models, each with its own licences. */
async function ofModels(root: string): Promise<string> {
  const files = (await filesBelow(join(root, "models"))).filter((path) => /(?:^|\/)(?:LICENSE|NOTICE\.md)$/.test(path));
  return [
    "The models were made from works of others. These files name them, with their authors and licences:",
    "",
    ...files.map((path) => `  models/${path}`),
  ].join("\n");
}

/** Contracts of others, by folder, with the copyright that their files state. */
async function ofContracts(root: string): Promise<string> {
  const folder = join(root, "third_party/proto");
  const holders = new Map<string, Set<string>>();
  for (const path of await filesBelow(folder)) {
    const text = await readFile(join(folder, path), "utf8");
    const isApache = text.includes("Apache License, Version 2.0");
    const holder = (isApache ? /^\/\/ (Copyright .+)$/m.exec(text)?.[1] : undefined) ?? holdersOfBareFiles[path];
    if (holder === undefined) {
      throw new Error(
        `third_party/proto/${path} states no copyright under Apache-2.0: find it in its project's LICENSE`,
      );
    }
    const top = path.split("/").slice(0, -1).slice(0, 2).join("/");
    holders.set(top, (holders.get(top) ?? new Set()).add(holder));
  }
  const copied = partialPackages.flatMap(({ name, copied }) =>
    Object.keys(copied).map((module) => `  ${module}, in ${name}`),
  );
  return [
    "third_party/proto holds contracts of others under Apache-2.0, the licence of this work too. dist holds code that was generated from them.",
    "",
    ...[...holders].flatMap(([path, names]) => [...names].map((name) => `  ${path}: ${name}`)),
    "",
    "Modules of other packages that are copied into ours:",
    "",
    ...copied,
  ].join("\n");
}

/** Of contracts without a header, from the LICENSE of their project, which is Apache-2.0. */
const holdersOfBareFiles: Readonly<Record<string, string>> = {
  "externalscaler/externalscaler.proto": "Copyright 2020 The KEDA Authors (KEDA 2.21.0)",
};

/** Packages that are bundled into the studio's page, with the copyright and the terms that they state. */
async function ofPage(root: string): Promise<string> {
  const { modulesOfPage } = await import("../build-page.mjs");
  const modules = new Map<string, string[]>();
  for (const path of await modulesOfPage()) {
    const name = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (name !== undefined) {
      modules.set(name, [...(modules.get(name) ?? []), path]);
    }
  }
  const names: string[] = [];
  const packagesOfTerms = new Map<string, string[]>();
  for (const [name, paths] of [...modules].toSorted(([one], [other]) => (one < other ? -1 : 1))) {
    const folder = join(root, "node_modules", name);
    const { license } = manifestSchema.parse(JSON.parse(await readFile(join(folder, "package.json"), "utf8")));
    names.push(`  ${name}: ${license.replace(/^\((.*)\)$/, "$1")}`);
    const licenceFile = (await readdir(folder)).find((file) => /^licen[cs]e(?:\.|$)/i.test(file));
    const texts =
      licenceFile === undefined
        ? await headersOf(paths)
        : [(await readFile(join(folder, licenceFile), "utf8")).replaceAll("\r\n", "\n").trim()];
    for (const text of texts) {
      packagesOfTerms.set(text, [...(packagesOfTerms.get(text) ?? []), name]);
    }
  }
  return [
    "dist/page, the studio, holds code of these packages:",
    "",
    ...names,
    ...[...packagesOfTerms].flatMap(([text, users]) => ["", `${users.join(", ")}:`, "", indent(text)]),
  ].join("\n");
}

const manifestSchema = z.object({ license: z.string() });

/** Comments at the start of modules that state a copyright, each once. */
async function headersOf(paths: readonly string[]): Promise<readonly string[]> {
  const texts = await Promise.all(paths.map((path) => readFile(path, "utf8")));
  const headers = texts.flatMap((text) =>
    text
      .split(/\n(?!\/\/)/)
      .filter((block) => /^\/\/ .*Copyright/m.test(block))
      .map((block) => block.replace(/^\/\/ ?/gm, "").trim()),
  );
  return [...new Set(headers)].toSorted();
}

/** Packages that npm installs with ours. Their own folders hold their licences. */
function ofPackages(dependencies: readonly Dependency[]): string {
  return [
    "npm installs these packages beside ours, and the container images hold those of their platform:",
    "",
    ...dependencies.map(({ name, version, licences }) => `  ${name} ${version}: ${licences.join(", ")}`),
    "",
    ...exceptionsOf(dependencies),
  ].join("\n");
}

const indent = (text: string): string => text.replace(/^(?=.)/gm, "  ");

/** Files below a folder, as paths from it with slashes. */
async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll(sep, "/"))
    .toSorted();
}
