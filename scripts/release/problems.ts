import { hasSection } from "./changelog.js";

/** Fields of package.json that npm's provenance and its readers need. */
const homeFields = ["repository", "bugs", "homepage"];

/** What keeps a checkout from being published under its name, each with what to do. */
export function homeProblems(manifest: Readonly<Record<string, unknown>>): readonly string[] {
  return homeFields
    .filter((field) => manifest[field] === undefined)
    .map((field) => `package.json has no ${field}: set it to the repository's public home`);
}

/** The state of a checkout that is to become a release. */
export interface Checkout {
  readonly version: string;
  /** Output of `git status --porcelain`. */
  readonly changes: string;
  /** All tags. */
  readonly tags: readonly string[];
}

/** What keeps a checkout from becoming a version, each with what to do. */
export function versionProblems(next: string, { version, changes, tags }: Checkout): readonly string[] {
  // The first release may have the number that the checkout has had since its beginning.
  const isFirst = next === version && !tags.some((tag) => versionPattern.test(tag.replace(/^v/, "")));
  return [
    ...(isFirst || isNewer(next, version)
      ? []
      : [`${next} is no version after ${version}: give one such as ${nextMinor(version)}`]),
    ...(changes === "" ? [] : ["the working tree has changes: commit them"]),
    ...(tags.includes(`v${next}`) ? [`the tag v${next} exists: choose another version`] : []),
  ];
}

/** The state of a checkout that is to be published. */
export interface ReleasedState extends Checkout {
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Text of CHANGELOG.md. */
  readonly changelog: string;
}

/** What keeps a released checkout from being published, each with what to do. `tags` are those of its commit. */
export function publishProblems({ manifest, version, changelog, changes, tags }: ReleasedState): readonly string[] {
  return [
    ...homeProblems(manifest),
    ...(changes === "" ? [] : ["the working tree has changes: commit them"]),
    ...(tags.includes(`v${version}`) ? [] : [`the commit has no tag v${version}`]),
    ...(hasSection(changelog, version) ? [] : [`CHANGELOG.md has no section for ${version}`]),
  ];
}

const versionPattern = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/;

/** Whether one version comes after another. Both are of numbers alone. */
function isNewer(next: string, version: string): boolean {
  const [after, before] = [next, version].map((text) => versionPattern.exec(text)?.slice(1).map(Number));
  if (after === undefined || before === undefined) {
    return false;
  }
  const different = after.findIndex((part, index) => part !== before[index]);
  return different !== -1 && Number(after[different]) > Number(before[different]);
}

function nextMinor(version: string): string {
  const [major = "0", minor = "0"] = version.split(".");
  return `${major}.${Number(minor) + 1}.0`;
}
