// Bundles modules of a checkout with the packages that they use: a process reads some dozens of files in place of a thousand.
import { readdir, readFile, realpath, rm, stat } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";

/** Only development has the bundler: `npm ci --omit=dev` goes without. */
const esbuild = () =>
  import("esbuild").catch((error) => {
    if (error.code === "ERR_MODULE_NOT_FOUND") {
      return undefined;
    }
    throw error;
  });

/** What entries share, and what they load later. */
const chunks = "dist/chunks";

/** Where the compiled form of a folder's modules lies. */
const compiledFolders = { src: "dist", test: "compiled-tests", examples: "compiled-tests/programs" };

/** A chunk lies at another depth than the modules in it: they find files from the root of the checkout. Packages in CommonJS have `require`. */
const banner = `
import { createRequire as $createRequire } from "node:module";
import { dirname as $dirname } from "node:path";
import { fileURLToPath as $fileURLToPath } from "node:url";
const $root = /^.*\\/(?=(?:dist|compiled-tests)\\/)/.exec(import.meta.url)[0];
const require = $createRequire(import.meta.url);
const __filename = $fileURLToPath(import.meta.url);
const __dirname = $dirname(__filename);
`.replaceAll(/\s*\n\s*/g, " ");

/** Packages with files of their own beside the code, or that only tests use and that share no module with the sources. */
const external = [
  "sharp",
  "fs-native-extensions",
  // Optional peers, which a user installs. CommonJS, whose names a bundle would not export.
  "@aws-sdk/client-s3",
  "@aws-sdk/s3-request-presigner",
  "esbuild",
  "express",
  "fastify",
  "playwright-core",
  "happy-dom",
  "publint",
  "typescript",
];

const slashes = (path) => path.split(sep).join("/");

/** A map without a place: Node reads the maps of all that it loads, and nobody needs those of packages. */
const noMap =
  "\n//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIiJdLCJtYXBwaW5ncyI6IkEifQ==";

/** A module's text with the URL of its compiled form, which `import.meta.url` would be without bundling. */
function withUrl(root, path, text) {
  if (!text.includes("import.meta.url")) {
    return text;
  }
  const name = slashes(relative(root, path));
  const [folder, ...rest] = name.split("/");
  const compiled = compiledFolders[folder];
  const place = compiled === undefined ? name : `${compiled}/${rest.join("/").replace(/\.tsx?$/, ".js")}`;
  // On the first line, so that all stay where they are.
  return text.replace(/^(#!.*\n)?/, (start) => `${start}const $url = $root + ${JSON.stringify(encodeURI(place))}; `);
}

const modules = (root) => ({
  name: "modules",
  setup(bundler) {
    bundler.onLoad({ filter: /\.tsx?$/ }, async ({ path }) => ({
      // The bundler knows no other `require` than the global one.
      contents: withUrl(root, path, await readFile(path, "utf8")).replace(
        /^const require = createRequire\(import\.meta\.url\);$/m,
        "",
      ),
      loader: path.endsWith("x") ? "tsx" : "ts",
    }));
    bundler.onLoad({ filter: /[\\/]node_modules[\\/].*\.[cm]?js$/ }, async ({ path }) => ({
      contents: withUrl(root, path, await readFile(path, "utf8")) + noMap,
      loader: "js",
    }));
    // The repository's own scripts stay where they are.
    bundler.onResolve({ filter: /^\..*\.mjs$/ }, ({ path, resolveDir }) => {
      const target = resolve(resolveDir, path);
      return dirname(target) === join(root, "scripts")
        ? { path: pathToFileURL(target).href, external: true }
        : undefined;
    });
    // Native, so it stays in its package; loaded in its turn, after what is to be set before.
    bundler.onResolve({ filter: /^onnxruntime-node$/ }, ({ path, namespace }) =>
      namespace === "native" ? { path, external: true } : { path, namespace: "native" },
    );
    bundler.onLoad({ filter: /.*/, namespace: "native" }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
    }));
  },
});

/** Running processes load chunks of the build that they started with; a day later no such process counts. */
const keptMs = 24 * 3_600_000;

async function removeOldChunks(root) {
  const folder = join(root, chunks);
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    if ((await stat(path)).mtimeMs < Date.now() - keptMs) {
      await rm(path, { force: true });
    }
  }
}

/**
 * Bundles modules, each of which stays a file that can be imported by its path: `src/a.ts` becomes `dist/a.js`, and `test/a.ts`
 * becomes `compiled-tests/a.js`.
 *
 * @param checkout its folder.
 * @param names modules from the root.
 * @returns false where the bundler, a development dependency, is not installed.
 */
export async function bundle(checkout, names) {
  // The bundler names files by their real paths.
  const root = await realpath(checkout);
  const { build } = (await esbuild()) ?? {};
  if (build === undefined) {
    return false;
  }
  await build({
    absWorkingDir: root,
    entryPoints: names.map((name) => {
      const [folder, ...rest] = slashes(name).split("/");
      return { in: name, out: `${compiledFolders[folder]}/${rest.join("/").replace(/\.tsx?$/, "")}` };
    }),
    outdir: ".",
    chunkNames: `${chunks}/[hash]`,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    // As Node resolves them, with our own names for what is in src.
    conditions: ["throughline-source"],
    external,
    banner: { js: banner },
    define: { "import.meta.url": "$url" },
    jsx: "automatic",
    jsxImportSource: "preact",
    sourcemap: "linked",
    sourcesContent: false,
    logLevel: "warning",
    plugins: [modules(root)],
  });
  await removeOldChunks(root);
  return true;
}
