/** Types of what is used of the package, which has none. */
declare module "fs-native-extensions" {
  /** Locks bytes of an open file for that one alone. Returns false if another open file has them. */
  export function tryLock(fd: number, offset: number, length: number): boolean;
}
