/** Builds the page. */
export function buildPage(): Promise<void>;
/** Returns the paths, from the current folder, of all modules that the page is made of. Writes nothing. */
export function modulesOfPage(): Promise<readonly string[]>;
