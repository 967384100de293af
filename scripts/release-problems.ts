/** The state of a checkout that is about to be released. */
export interface ReleaseState {
  /** Content of package.json. */
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Text of CHANGELOG.md. */
  readonly changelog: string;
  /** Output of `git status --porcelain`. */
  readonly changes: string;
  /** Tags of the commit. */
  readonly tags: readonly string[];
}

/** What keeps a checkout from being released, each with what to do. */
export function releaseProblems({ manifest, changelog, changes, tags }: ReleaseState): readonly string[] {
  const version = String(manifest["version"]);
  const heading = new RegExp(`^## \\[?${version.replaceAll(".", "\\.")}\\]?(?: |$)`, "m");
  return [
    ...["repository", "bugs", "homepage"]
      .filter((field) => manifest[field] === undefined)
      .map((field) => `package.json has no ${field}: set it to the repository's public home`),
    ...(changes === "" ? [] : ["the working tree has changes: commit them"]),
    ...(tags.includes(`v${version}`) ? [] : [`the commit has no tag v${version}`]),
    ...(heading.test(changelog) ? [] : [`CHANGELOG.md has no section for ${version}`]),
  ];
}
