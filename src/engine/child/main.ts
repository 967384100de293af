/** Entry of the engine's process; only a host forks it. */

// Ctrl-C and a service manager signal the whole process group, but when to stop is the host's decision.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {});
}

// Loaded after that, because loading onnxruntime takes its time.
const { createProcessChannel } = await import("./serve-engine.js");
const { serveEngine } = await import("./serve-engine.js");
const { loadOnDevice } = await import("../load-on-device.js");

serveEngine({
  channel: createProcessChannel(),
  load: (order, onFailure) => loadOnDevice({ ...order, onFailure }),
  onClosed: () => process.exit(0),
});
