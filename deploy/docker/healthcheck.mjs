// node healthcheck.mjs pipeline|worker: HEALTHCHECK of the images, 0 if the app is ready. It reads the variables that the app reads. An
// app whose port is set by a flag needs a check of its own. The certificate is not verified: the connection is on loopback.
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect } from "node:net";

const { env } = process;
const port =
  process.argv[2] === "pipeline" ? env["THROUGHLINE_PIPELINE_PORT"] || 8080 : env["THROUGHLINE_WORKER_PORT"] || 50_052;
const address = { host: "127.0.0.1", port: Number(port), timeout: 4000 };

/** Ends with 0 or 1. */
const end = (isReady) => process.exit(isReady ? 0 : 1);

if (env["THROUGHLINE_TLS_CLIENT_CA"]) {
  // The app asks for a client certificate, which this check lacks: an open port is all that it can see.
  connect(address)
    .on("connect", () => end(true))
    .on("timeout", () => end(false))
    .on("error", () => end(false));
} else {
  const request = env["THROUGHLINE_TLS_CERT"] ? requestHttps : requestHttp;
  request({ ...address, path: "/readyz", rejectUnauthorized: false }, ({ statusCode }) => end(statusCode === 200))
    .on("timeout", () => end(false))
    .on("error", () => end(false))
    .end();
}
