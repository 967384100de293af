import { connect } from "node:net";

/** What the runner starts in place of a server: asks the process at the port of the first argument to serve, until it is killed. */
const host = connect(Number(process.argv[2]), "127.0.0.1");
process.stdin.pipe(host, { end: false });
host.pipe(process.stdout);
