// The command line of a checkout: compiles what has changed since the last time, then runs it.
import { prepare } from "./prepare.mjs";

if (!(await prepare())) {
  process.stderr.write(
    "throughline: the sources are newer than dist, and esbuild, which compiles them, is not installed: run npm ci\n",
  );
  process.exit(1);
}
await import("../dist/cli/main.js");
