/** Entry of the engine's process; only a host forks it. */

// Ctrl-C and a service manager signal the whole process group, but when to stop is the host's decision.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {});
}

// Loaded after that, because loading onnxruntime takes its time.
const { createProcessChannel } = await import("./process-channel.js");
const { serveEngine } = await import("./serve-engine.js");
const { loadSdxlEngine } = await import("../sdxl-engine.js");
const { createSessionOpener } = await import("../sessions.js");

serveEngine({
  channel: createProcessChannel(),
  load: ({ modelFolder, threads }) =>
    loadSdxlEngine({ modelFolder, openSession: createSessionOpener(threads === undefined ? {} : { threads }) }),
  onClosed: () => process.exit(0),
});
