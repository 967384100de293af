import { runApp } from "throughline/run";
import { createUpscalerApp } from "./upscaler-app.js";

await runApp({ name: "upscaler", app: "local/upscaler", port: 50061, create: createUpscalerApp });
