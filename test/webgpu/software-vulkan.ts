import { existsSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

/** Variables that let a process find the driver, or why there is none. */
export type SoftwareVulkan = { readonly environment: Readonly<Record<string, string>> } | { readonly reason: string };

const manifest = "vk_swiftshader_icd.json";
/** Where Linux distributions put Chromium's files; the program itself may be a script elsewhere. */
const usualFolders = [
  "/usr/lib/chromium",
  "/usr/lib/chromium-browser",
  "/usr/lib64/chromium-browser",
  "/opt/google/chrome",
];

/** Finds SwiftShader: named by the variable SWIFTSHADER, or beside this machine's Chromium. */
export function findSoftwareVulkan(): SoftwareVulkan {
  if (process.platform !== "linux") {
    return { reason: "the driver in software is looked for on Linux alone" };
  }
  const { SWIFTSHADER, CHROMIUM, PATH = "", LD_LIBRARY_PATH } = process.env;
  const programs = PATH.split(delimiter).flatMap((folder) =>
    ["chromium", "google-chrome"].map((name) => join(folder, name)),
  );
  const beside = [CHROMIUM ?? [], programs]
    .flat()
    .flatMap((path) => (existsSync(path) ? dirname(realpathSync(path)) : []));
  const candidates =
    SWIFTSHADER === undefined ? [...beside, ...usualFolders].map((folder) => join(folder, manifest)) : [SWIFTSHADER];
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    return {
      reason: `there is no SwiftShader here: install a Chromium (Debian's package is chromium), or name its ${manifest} by SWIFTSHADER=<path>`,
    };
  }
  // Chromium brings the Vulkan loader too, for machines without libvulkan1.
  const libraries = [LD_LIBRARY_PATH ?? [], dirname(path)].flat().join(delimiter);
  return { environment: { VK_DRIVER_FILES: path, LD_LIBRARY_PATH: libraries } };
}
