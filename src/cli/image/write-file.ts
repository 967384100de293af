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
import { CliError } from "../errors.js";

/**
 * Checks that a file can be written, before the image is requested.
 *
 * @throws CliError naming the path.
 */
export function checkOutputPath(path: string): void {
  const folder = dirname(path);
  try {
    if (!statSync(folder).isDirectory()) {
      throw new CliError(`cannot write ${path}: ${folder} is not a folder`);
    }
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw error instanceof CliError ? error : cannotWrite(path, error);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CliError(`cannot write ${path}: it is a folder`);
  }
}

/**
 * Writes a file beside its place and then renames it, so that neither a reader nor a crash sees half of it. It blocks on purpose: no signal
 * handler runs in between, so an interrupted command leaves no draft behind.
 *
 * @throws CliError naming the path; nothing is then left behind.
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
      // The first failure is reported.
    }
    throw cannotWrite(path, cause);
  }
}

function cannotWrite(path: string, cause: unknown): CliError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const reason = reasons.get(code) ?? (cause instanceof Error ? cause.message : "unknown error");
  return new CliError(`cannot write ${path}: ${reason}`, { cause });
}

const reasons = new Map([
  ["ENOENT", "its folder does not exist"],
  ["ENOTDIR", "its folder is a file"],
  ["EACCES", "its folder may not be written to"],
  ["EPERM", "its folder may not be written to"],
  ["EROFS", "its folder may not be written to"],
  ["ENOSPC", "the disk is full"],
]);
