import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { runCommand } from "./support/run-command.js";

// onnxruntime is loaded by the engine's process, and by doctor in its own too.
suite("engine leaves nothing in the home and temporary folders of its user", {
  concurrency: 2,
}, async () => {
  const folder = await temporaryFolder();
  const model = await makeSdxlFolder(join(folder, "model"));
  const commands = {
    demo: ["--steps", "1", "--out", join(folder, "demo.png")],
    doctor: ["--device", "cpu", "--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"],
  };
  for (const [command, flags] of Object.entries(commands)) {
    test(command, async (t) => {
      const [home, temporary] = [join(folder, command, "home"), join(folder, command, "temporary")];
      await Promise.all([home, temporary].map((path) => mkdir(path, { recursive: true })));
      const { code, stderr } = await runCommand(t, [command, "--model", model, ...flags], {
        HOME: home,
        TMPDIR: temporary,
        XDG_CACHE_HOME: "",
        XDG_DATA_HOME: "",
        XDG_CONFIG_HOME: "",
        XDG_STATE_HOME: "",
        ORT_DISABLE_TELEMETRY: "",
      });
      assert.equal(code, 0, stderr);
      assert.deepEqual(await readdir(home, { recursive: true }), []);
      assert.deepEqual(await readdir(temporary, { recursive: true }), []);
    });
  }
});
