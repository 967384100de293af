#!/usr/bin/env node
import * as nodeModule from "node:module";
import { fileURLToPath } from "node:url";

// Node 22 and later keep what they have compiled. Before anything else is loaded, so that it is kept too.
if ("enableCompileCache" in nodeModule && typeof nodeModule.enableCompileCache === "function") {
  nodeModule.enableCompileCache(fileURLToPath(new URL("../../node_modules/.cache/throughline", import.meta.url)));
}
await import("./run.js");
