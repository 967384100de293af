/** Whether `dist` is older than the sources; undefined where it was never compiled. */
export function isStale(root?: string): Promise<boolean | undefined>;
/** Compiles all sources; false where the compiler, a development dependency, is not installed. */
export function compile(root?: string): Promise<boolean>;
