const registry = new FinalizationRegistry<() => void>((tell) => tell());

/**
 * Calls back once nobody can use `target` any more: it was dropped, and the garbage collector has been there.
 *
 * @param tell must not keep the target alive.
 * @returns ends the watch.
 */
export function whenAbandoned(target: object, tell: () => void): () => void {
  registry.register(target, tell, tell);
  return () => {
    registry.unregister(tell);
  };
}
