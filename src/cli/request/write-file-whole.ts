import { randomUUID } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { CommandError } from "../command-error.js";

/**
 * Says early what would be in the way of writing a file, so that nobody waits for a picture that has no place.
 *
 * @throws CommandError naming the path.
 */
export function checkPlaceFor(path: string): void {
  const folder = dirname(path);
  try {
    if (!statSync(folder).isDirectory()) {
      throw new CommandError(`cannot write ${path}: ${folder} is no folder`);
    }
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw error instanceof CommandError ? error : cannotWrite(path, error);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CommandError(`cannot write ${path}: it is a folder`);
  }
}

/**
 * Writes a file beside its place and then moves it there, so that no reader and no crash ever sees half of it. It blocks on purpose:
 * no signal handler runs in between, so an interrupted command leaves no draft behind.
 *
 * @throws CommandError naming the path; nothing is then left behind.
 */
export function writeFileWhole(path: string, bytes: Uint8Array): void {
  const draft = join(dirname(path), `.${randomUUID()}.tmp`);
  try {
    const file = openSync(draft, "wx");
    try {
      writeFileSync(file, bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
  } catch (cause) {
    try {
      rmSync(draft, { force: true });
    } catch {
      // Where not even that works, the first failure says why.
    }
    throw cannotWrite(path, cause);
  }
}

function cannotWrite(path: string, cause: unknown): CommandError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const words = reasons.get(code) ?? (cause instanceof Error ? cause.message : "unknown error");
  return new CommandError(`cannot write ${path}: ${words}`, { cause });
}

const reasons = new Map([
  ["ENOENT", "its folder does not exist"],
  ["ENOTDIR", "its folder is a file"],
  ["EACCES", "its folder may not be written to"],
  ["EPERM", "its folder may not be written to"],
  ["EROFS", "its folder may not be written to"],
  ["ENOSPC", "the disk is full"],
]);
