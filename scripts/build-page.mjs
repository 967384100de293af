// The studio's page in dist/page: what a browser loads, and nothing else.
import { copyFile, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { build } from "esbuild";

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const source = at("src/page");
const target = at("dist/page");

/** The messages of buf/validate/validate.proto that come in errors. The page checks nothing by the rules themselves, which are most of the file. */
const errorMessages = ["Violations", "Violation", "FieldPath", "FieldPathElement"];

const withoutRules = {
  name: "without-rules",
  setup(bundler) {
    bundler.onLoad({ filter: /gen[\\/]buf[\\/]validate[\\/]validate_pb\.js$/ }, () => {
      const { name, package: packageName, syntax, edition, messageType } = file_buf_validate_validate.proto;
      const file = create(FileDescriptorProtoSchema, {
        name,
        package: packageName,
        syntax,
        edition,
        dependency: ["google/protobuf/descriptor.proto"],
        messageType: errorMessages.map((wanted) => messageType.find((message) => message.name === wanted)),
      });
      const base64 = Buffer.from(toBinary(FileDescriptorProtoSchema, file)).toString("base64");
      return {
        contents: [
          'import { fileDesc, messageDesc } from "@bufbuild/protobuf/codegenv2";',
          'import { file_google_protobuf_descriptor } from "@bufbuild/protobuf/wkt";',
          `export const file_buf_validate_validate = /*@__PURE__*/ fileDesc("${base64}", [file_google_protobuf_descriptor]);`,
          ...errorMessages.map(
            (message, index) =>
              `export const ${message}Schema = /*@__PURE__*/ messageDesc(file_buf_validate_validate, ${index});`,
          ),
        ].join("\n"),
        resolveDir: source,
      };
    });
  },
};

const options = {
  entryPoints: [`${source}/studio.tsx`, `${source}/studio.css`],
  outdir: target,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome123", "firefox121", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
  plugins: [withoutRules],
};

/** Builds the page. */
export async function buildPage() {
  await mkdir(target, { recursive: true });
  await build(options);
  for (const file of ["index.html", "icon.svg"]) {
    await copyFile(`${source}/${file}`, `${target}/${file}`);
  }
}

/** Returns the paths, from the current folder, of all modules that the page is made of. Writes nothing. */
export async function modulesOfPage() {
  const { metafile } = await build({ ...options, write: false, metafile: true });
  return Object.keys(metafile.inputs);
}
