import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";

/**
 * A user with empty home and temporary folders, and with no choice about onnxruntime's telemetry, which would leave files in them: the
 * engine's process loads it, and doctor in its own too.
 */
export async function emptyUser() {
  const folder = await temporaryFolder();
  const [home, temporary] = [join(folder, "home"), join(folder, "temporary")];
  await Promise.all([home, temporary].map((path) => mkdir(path)));
  return {
    environment: {
      HOME: home,
      TMPDIR: temporary,
      XDG_CACHE_HOME: "",
      XDG_DATA_HOME: "",
      XDG_CONFIG_HOME: "",
      XDG_STATE_HOME: "",
      ORT_DISABLE_TELEMETRY: "",
    },
    /** What lies in both folders. */
    async files(): Promise<readonly string[]> {
      const found = await Promise.all([home, temporary].map((path) => readdir(path, { recursive: true })));
      return found.flat();
    },
  };
}
