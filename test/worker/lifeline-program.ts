/**
 * The engine's process, holding a connection to the port in LIFELINE_PORT: when that closes, the process has ended. It begins when
 * something comes over it.
 */
import { once } from "node:events";
import { connect } from "node:net";

const lifeline = connect(Number(process.env["LIFELINE_PORT"]), "127.0.0.1");
await once(lifeline, "data");
lifeline.unref();
await import("../../src/engine/child/main.js");
