/** The engine's process, holding a connection to the port in LIFELINE_PORT: when that closes, the process has ended. */
import { connect } from "node:net";

connect(Number(process.env["LIFELINE_PORT"]), "127.0.0.1").unref();
await import("../../src/engine/child/main.js");
