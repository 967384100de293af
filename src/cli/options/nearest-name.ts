/** A variable that nothing reads. */
export interface UnknownVariable {
  readonly name: string;
  /** The known name that it probably should have. */
  readonly nearest: string | undefined;
}

/** The name with the fewest edits, if they are at most a third of its letters. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  return nearestOf(name, known, name.length - name.indexOf("_") - 1);
}

/** The candidate with the fewest edits, if they are at most a third of the letters that can differ. */
export function nearestOf(name: string, known: Iterable<string>, letters: number): string | undefined {
  let nearest: string | undefined;
  let fewest = Math.ceil(letters / 3);
  for (const candidate of known) {
    const edits = editDistance(name, candidate);
    if (edits <= fewest && (nearest === undefined || edits < fewest)) {
      [nearest, fewest] = [candidate, edits];
    }
  }
  return nearest;
}

/** Levenshtein distance: insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substituted));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
