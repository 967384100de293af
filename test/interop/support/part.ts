/** The result of one case of a suite. */
export interface CaseResult {
  readonly name: string;
  readonly passed: boolean;
  /** Why it failed; empty where it passed. */
  readonly detail: string;
}

/** One suite of a foreign implementation. */
export interface Part {
  readonly name: string;
  /**
   * Runs all cases.
   *
   * @throws ToolMissingError where this machine lacks what the part needs.
   */
  run(): Promise<PartResult>;
}

/** The results of a suite. */
export interface PartResult {
  readonly cases: readonly CaseResult[];
  /** A line that compares the totals with those of another implementation. @default none */
  readonly comparison?: string;
}

/** A part cannot run here. The message names the tool. */
export class ToolMissingError extends Error {
  override readonly name = "ToolMissingError";
}

/** Runs one case: it passes unless it throws or takes longer than the limit. */
export async function runCase(name: string, run: () => Promise<void>, timeoutMs = 30_000): Promise<CaseResult> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([run(), late]);
    return { name, passed: true, detail: "" };
  } catch (error) {
    return { name, passed: false, detail: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}
