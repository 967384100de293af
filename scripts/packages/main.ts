import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { packPackages } from "./pack.js";

/* npm run pack: builds the published packages as tarballs in out/packages. */

const target = fileURLToPath(new URL("../../out/packages", import.meta.url));
for (const { name, tarball, size } of await packPackages(target)) {
  process.stdout.write(`${name}  ${relative(process.cwd(), tarball)}  ${(size / 1024).toFixed(0)} KiB\n`);
}
