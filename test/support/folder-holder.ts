import { lockJobFolder } from "../../src/jobs/folder-lock.js";

/** Program that holds the lock of a folder until it is killed. */
await lockJobFolder(process.argv[2] ?? "");
process.stdout.write("locked\n");
setInterval(() => {}, 60_000);
