// What `npm ci` runs in a checkout: compiles the commands, and builds the studio's page.
import { compile } from "./compile.mjs";

if (await compile()) {
  await import("./build-page.mjs");
} else {
  process.stderr.write("nothing is compiled, because esbuild, a development dependency, is not installed\n");
}
