import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { billOfMaterials, licenceProblems } from "./dependencies.js";
import { makeNotice } from "./notice.js";

/* npm run notice: checks the licences of all dependencies, and makes the file NOTICE of them. */

const root = fileURLToPath(new URL("../..", import.meta.url));
const problems = licenceProblems((await billOfMaterials(root)).dependencies);
process.stderr.write(problems.map((problem) => `${problem}\n`).join(""));
process.exitCode = problems.length > 0 ? 1 : 0;
await writeFile(`${root}/NOTICE`, await makeNotice(root));
