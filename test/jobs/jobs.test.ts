// One process and mostly one database for all suites: to load PGlite and open a database costs seconds of CPU.
import { describeAccess } from "./suites/access.js";
import { describeFullDisk } from "./suites/full-disk.js";
import { describeMetrics } from "./suites/metrics.js";
import { describeOtherOptions } from "./suites/other-options.js";
import { describeFolder } from "./suites/pglite-folder.js";
import { describeRestarts } from "./suites/restarts.js";
import { describeRuns } from "./suites/runs.js";
import { describeService } from "./suites/service.js";
import { withSharedMesh } from "./suites/shared-mesh.js";
import { describeTrace } from "./suites/trace.js";
import { describeWebhooks } from "./suites/webhooks.js";

withSharedMesh((shared) => {
  // First, because it sees the spans of all jobs.
  describeTrace(shared);
  describeService(shared);
  describeRuns(shared);
  describeWebhooks(shared);
  describeMetrics(shared);
  describeFullDisk(shared);
});
describeOtherOptions();
describeAccess();
describeRestarts();
describeFolder();
