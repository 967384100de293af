/**
 * Switches onnxruntime's telemetry off. Its native part otherwise looks up a host of Microsoft's, keeps a device id and a database in the
 * user's cache folder, and leaves a log in the temporary folder. It reads the variable once, while it is loaded: import this first.
 *
 * @see https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
 */
process.env["ORT_DISABLE_TELEMETRY"] = "1";
