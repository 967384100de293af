import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { packageOf, readModuleGraph } from "../../scripts/packages/module-graph.js";
import { type Role, roles } from "./roles.js";

/*
 * node --import tsx deploy/docker/stage.ts ROLE FOLDER: writes what the image of a role contains into a folder, after `npm run build`.
 * These are the modules that the commands of the role reach, and the packages that those import, in the versions of package-lock.json.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const versions = z.record(z.string(), z.string());
const manifestSchema = z.looseObject({
  version: z.string(),
  dependencies: versions,
  devDependencies: versions,
  peerDependencies: versions,
});

function stage(role: Role, target: string): void {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const dist = join(root, "dist");
  const leftOut = new Set<string>();
  const { modules, external } = readModuleGraph(dist, ["cli/main", ...role.programs], {
    extensions: [".js"],
    isLeftOut(module, importer) {
      const name = /^cli\/commands\/([^/]+)$/.exec(module)?.[1];
      if (importer !== "cli/commands" || name === undefined || role.commands.includes(name)) {
        return false;
      }
      leftOut.add(module);
      return true;
    },
  });
  const message = `this image has the commands ${role.commands.join(", ")}; the package throughline has them all`;
  for (const module of leftOut) {
    if (!modules.has(module)) {
      write(join(target, "dist", `${module}.js`), `throw new Error(${JSON.stringify(message)});\n`);
    }
  }
  for (const module of modules) {
    const code = readFileSync(join(dist, `${module}.js`), "utf8");
    write(join(target, "dist", `${module}.js`), withoutMap(code));
  }
  for (const path of role.folders) {
    cpSync(join(root, path), join(target, path), { recursive: true });
  }
  for (const path of ["LICENSE", "NOTICE"]) {
    copyFileSync(join(root, path), join(target, path));
  }
  installPackages(role, target, new Set([...external].map(packageOf)));
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** Maps lead to sources that the image does not have. */
const withoutMap = (code: string) => code.replace(/\n\/\/# sourceMappingURL=.*\n?$/, "\n");

/** Installs packages with what they need. The AWS SDK is a peer of the published package and a part of the image. */
function installPackages(role: Role, target: string, names: ReadonlySet<string>): void {
  const manifest = manifestSchema.parse(JSON.parse(readFileSync(join(root, "package.json"), "utf8")));
  const known = { ...manifest.dependencies };
  for (const peer of Object.keys(manifest.peerDependencies)) {
    known[peer] = manifest.devDependencies[peer] ?? "";
  }
  const dependencies = Object.fromEntries(
    [...names].sort().map((dependency) => {
      const version = known[dependency];
      if (version === undefined) {
        throw new Error(`${dependency} is imported and is no dependency of package.json`);
      }
      return [dependency, version];
    }),
  );
  const { version, license } = manifest;
  const staged = { name: "throughline", version, license, private: true, type: "module", dependencies };
  writeFileSync(join(target, "package.json"), `${JSON.stringify(staged, undefined, 2)}\n`);
  for (const path of ["package-lock.json", ".npmrc"]) {
    copyFileSync(join(root, path), join(target, path));
  }
  const npm = (...args: string[]) =>
    execFileSync("npm", [...args, "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"], {
      cwd: target,
      stdio: ["ignore", "ignore", "inherit"],
      // It would otherwise be that of the project in which npm runs this script.
      env: { ...process.env, npm_config_local_prefix: target, ONNXRUNTIME_NODE_INSTALL: role.download ?? "skip" },
    });
  // Takes what the role lacks out of the lock file; all that stays keeps its version and checksum.
  npm("install", "--package-lock-only");
  npm("ci", "--omit=dev");
  if (role.download !== undefined) {
    npm("rebuild", "onnxruntime-node", "--ignore-scripts=false", "--foreground-scripts");
  }
  removeUnused(join(target, "node_modules"));
}

/** Builds of native packages, by platform and processor. TensorRT needs libraries that no image has. */
const builds: readonly { readonly folder: string; readonly kept: RegExp }[] = [
  { folder: "onnxruntime-node/bin/napi-v6", kept: new RegExp(`^${process.platform}/${process.arch}/(?!.*tensorrt)`) },
  { folder: "fs-native-extensions/prebuilds", kept: new RegExp(`^${process.platform}-${process.arch}/`) },
];

/** Removes what a process never reads: types, maps, and builds for other machines. Licences stay, and what an SBOM is made of. */
function removeUnused(packages: string): void {
  const filesBelow = (path: string) => {
    try {
      return readdirSync(path, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name));
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") {
        return [];
      }
      throw error;
    }
  };
  for (const path of filesBelow(packages)) {
    if (/\.(?:d\.[cm]?ts|map)$/.test(path)) {
      rmSync(path);
    }
  }
  for (const { folder: place, kept } of builds) {
    const base = join(packages, place);
    for (const path of filesBelow(base)) {
      if (!kept.test(path.slice(base.length + 1))) {
        rmSync(path);
      }
    }
  }
}

const [name = "", folder] = process.argv.slice(2);
const chosen = roles[name];
if (chosen === undefined || folder === undefined) {
  process.stderr.write(`usage: stage.ts ROLE FOLDER; roles: ${Object.keys(roles).join(", ")}\n`);
  process.exit(2);
}
stage(chosen, folder);
