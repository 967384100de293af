/** Heading of the changes that no version has yet. */
const unreleased = "## Unreleased";

/**
 * Turns the section `Unreleased` of a changelog into that of a version, below an empty new one.
 *
 * @param date as YYYY-MM-DD.
 * @throws Error if the section is missing or empty, or the version has one already.
 */
export function releaseChanges(changelog: string, version: string, date: string): string {
  if (hasSection(changelog, version)) {
    throw new Error(`CHANGELOG.md has a section for ${version} already: choose another version`);
  }
  const [, before, changes, after] =
    /^([\s\S]*?)^## Unreleased\n([\s\S]*?)((?:^## [\s\S]*)?)$(?![\s\S])/m.exec(changelog) ?? [];
  if (before === undefined || changes === undefined || changes.trim() === "") {
    throw new Error("CHANGELOG.md has nothing under Unreleased: say what has changed");
  }
  return `${before}${unreleased}\n\n## ${version} (${date})\n\n${changes.trim()}\n${after ? `\n${after}` : ""}`;
}

/** Whether a changelog has a section for a version. */
export function hasSection(changelog: string, version: string): boolean {
  return new RegExp(`^## \\[?${version.replaceAll(".", "\\.")}\\]?(?: |$)`, "m").test(changelog);
}
