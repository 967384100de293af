import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { z } from "zod";

const run = promisify(execFile);

const licence = z.union([
  z.object({ expression: z.string() }).transform(({ expression }) => expression),
  z
    .object({ license: z.object({ id: z.string().optional(), name: z.string().optional() }) })
    .transform(({ license }) => license.id ?? license.name ?? ""),
]);
const billSchema = z.looseObject({
  metadata: z.looseObject({ component: z.looseObject({ name: z.string(), version: z.string() }) }),
  components: z.array(z.looseObject({ name: z.string(), version: z.string(), licenses: z.array(licence).default([]) })),
});

/** A package that users install with this one, on any platform. */
export interface Dependency {
  readonly name: string;
  readonly version: string;
  /** SPDX identifiers or expressions, as the package declares them. */
  readonly licences: readonly string[];
}

/**
 * Software bill of materials of the production dependencies of all platforms, by npm from the lock file.
 *
 * @returns a CycloneDX document.
 */
export async function billOfMaterials(
  root: string,
): Promise<{ readonly text: string; readonly dependencies: readonly Dependency[] }> {
  const { stdout } = await run("npm", ["sbom", "--omit=dev", "--package-lock-only", "--sbom-format=cyclonedx"], {
    cwd: root,
    maxBuffer: 2 ** 26,
    shell: process.platform === "win32",
  });
  const raw: unknown = JSON.parse(stdout);
  const { components, metadata } = billSchema.parse(raw);
  // npm names the whole after its folder.
  const document = {
    ...z.looseObject({}).parse(raw),
    metadata: { ...metadata, component: { ...metadata.component, name: "throughline" } },
  };
  return {
    text: `${JSON.stringify(document, undefined, 2)}\n`,
    dependencies: components
      .map(({ name, version, licenses }) => ({ name, version, licences: licenses }))
      .toSorted((one, other) => compare(one.name, other.name) || compare(one.version, other.version)),
  };
}

const compare = (one: string, other: string): number => (one < other ? -1 : Number(one > other));

/** Licences that let users do what this project's own does, if they keep notices. */
const accepted = new Set(["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "Unlicense"]);
/** Packages under other licences, and why they may be used. */
const exceptions: readonly { readonly names: RegExp; readonly licence: string; readonly why: string }[] = [
  {
    names: /^@img\/sharp-/,
    licence: "LGPL-3.0-or-later",
    why: "libvips is a library of its own beside sharp, which users can replace",
  },
];

/** What is wrong with the licences of dependencies, each with what to do. */
export function licenceProblems(dependencies: readonly Dependency[]): readonly string[] {
  return dependencies.flatMap(({ name, version, licences }) => {
    if (licences.length === 0) {
      return [`${name}@${version} declares no licence: look it up, and replace the package if it has none`];
    }
    const isAccepted = (id: string) =>
      accepted.has(id) || exceptions.some(({ names, licence }) => licence === id && names.test(name));
    return licences
      .filter((expression) => !allows(expression, isAccepted))
      .map(
        (expression) =>
          `${name}@${version} is under ${expression}: replace it, or add the licence to scripts/release/dependencies.ts with the reason`,
      );
  });
}

/** Whether an SPDX expression of AND and OR, with at most one pair of parentheses around it, can be met by accepted licences. */
function allows(expression: string, isAccepted: (id: string) => boolean): boolean {
  return expression
    .replace(/^\((.*)\)$/, "$1")
    .split(" OR ")
    .some((choice) => choice.split(" AND ").every(isAccepted));
}

/** Reasons for the exceptions that these dependencies need. */
export function exceptionsOf(dependencies: readonly Dependency[]): readonly string[] {
  return exceptions
    .filter(({ names }) => dependencies.some(({ name }) => names.test(name)))
    .map(({ licence, why }) => `${licence}: ${why}`);
}
