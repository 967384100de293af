import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { runProgram } from "../interop/support/run-program.js";
import { root } from "./support/manifests.js";
import { findPromtool } from "./support/tools.js";

/** Alert rules, as Prometheus reads them. */
export function describeAlerts(): void {
  suite("alert rules", async () => {
    const folder = await temporaryFolder();
    const tool = await findPromtool();
    const skip = "missing" in tool ? tool.missing : false;
    const promtool = "path" in tool ? tool.path : "";
    cpSync(join(root, "deploy/prometheus"), folder, { recursive: true });

    test("promtool accepts the rules", { skip }, async () => {
      const { code, stdout, tail } = await runProgram(promtool, ["check", "rules", "alerts.yaml"], { cwd: folder });
      assert.equal(code, 0, `${stdout}${tail}`);
    });

    test("each alert fires when it should, and not otherwise", { skip }, async () => {
      const run = () => runProgram(promtool, ["test", "rules", "alerts.test.yaml"], { cwd: folder });
      const { code, stdout, tail } = await run();
      assert.equal(code, 0, `${stdout}${tail}`);
      // Promtool compares: another threshold fails.
      const rules = join(folder, "alerts.yaml");
      writeFileSync(rules, readFileSync(rules, "utf8").replace("> 0.2", "> 2"));
      assert.notEqual((await run()).code, 0);
    });
  });
}
