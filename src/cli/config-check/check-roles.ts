import { pino } from "pino";
import type { CommandContext } from "../command.js";
import { frontProblems } from "../commands/pipeline.js";
import type { collectorOptions, devOptions, pipelineOptions, workerOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import type { SettingProblem } from "../options/setting-problem.js";
import { directoryOf, directoryProblems } from "../services/directory.js";
import { cipherOf, isDatabaseUrl, jobImageFolder, jobProblems, readWebhookSecret } from "../services/jobs.js";
import { scalerProblems } from "../services/scaler.js";
import { studioProblems } from "../services/studio.js";
import { checkFolder, checkImages, checkModel } from "./check-files.js";
import { checkPorts, checkProtection, checkRegistration, checkWorkerSecurity } from "./check-server.js";
import { checkTelemetry } from "./check-variables.js";
import type { Problems } from "./problems.js";

type Environment = Pick<CommandContext, "environment">;

/** Warnings of a start are not of interest here. */
const silent = pino({ level: "silent" });

const appsRemedy = "correct the apps; docs/deployment.md shows the file";

/** Checks the settings of a pipeline. */
export async function checkPipeline(
  settings: OptionValues<typeof pipelineOptions>,
  { environment }: Environment,
  problems: Problems,
): Promise<readonly SettingProblem[]> {
  const { jobs, jobsKeyFile, webhookSecretFile, images, imageStore, host } = settings;
  checkPorts(
    { "--port": settings.port, "--metrics-port": settings.metricsPort, "--keda-port": settings.kedaPort },
    problems,
  );
  await checkTelemetry(environment, settings.metricsPort, problems);
  await checkProtection(settings, problems);
  const together = directoryProblems(settings);
  problems.add([...together, ...frontProblems(settings), ...studioProblems(settings), ...scalerProblems(settings)]);
  if (together.length === 0) {
    const setting = settings.apps === undefined ? "--worker and --default-app" : "--apps";
    await problems.attempt(setting, appsRemedy, () => void directoryOf(settings, silent));
  }
  await checkWorkerSecurity(settings, problems);
  await checkImages(settings, environment, problems);
  problems.add(jobProblems(settings, { host, images, hasBucket: imageStore !== undefined }));
  const newKey = "write a key with `openssl rand -base64 32` into the file";
  await problems.attempt("--jobs-key-file", newKey, () => cipherOf(jobsKeyFile));
  if (webhookSecretFile !== undefined) {
    await problems.attempt("--webhook-secret-file", newKey, () => readWebhookSecret(webhookSecretFile));
  }
  if (jobs !== undefined) {
    await checkJobFolders(jobs, images, problems);
  }
  return [];
}

async function checkJobFolders(jobs: string, images: string | undefined, problems: Problems): Promise<void> {
  if (!isDatabaseUrl(jobs)) {
    await checkFolder("--jobs", jobs, problems);
  }
  const folder = jobImageFolder(jobs, images);
  if (folder !== undefined && folder !== images && isDatabaseUrl(jobs)) {
    await checkFolder("--jobs", folder, problems);
  }
}

/** Checks the settings of a worker. @returns warnings. */
export async function checkWorker(
  settings: OptionValues<typeof workerOptions>,
  { environment }: Environment,
  problems: Problems,
): Promise<readonly SettingProblem[]> {
  checkPorts({ "--port": settings.port, "--metrics-port": settings.metricsPort }, problems);
  await checkTelemetry(environment, settings.metricsPort, problems);
  await checkProtection(settings, problems);
  await checkRegistration(settings, problems);
  await checkImages(settings, environment, problems);
  return checkModel(settings, environment, problems);
}

/** Checks the settings of `dev`. @returns warnings. */
export async function checkDev(
  settings: OptionValues<typeof devOptions>,
  { environment }: Environment,
  problems: Problems,
): Promise<readonly SettingProblem[]> {
  const { jobs, images, apps } = settings;
  checkPorts(
    {
      "--pipeline-port": settings.pipelinePort,
      "--worker-port": settings.workerPort,
      "--collector-port": settings.collectorPort,
    },
    problems,
  );
  if (apps !== undefined) {
    const none = { workers: undefined, defaultApp: undefined };
    await problems.attempt("--apps", appsRemedy, () => void directoryOf({ apps, ...none }, silent));
  }
  await checkJobFolders(jobs, images, problems);
  if (images !== undefined) {
    await checkFolder("--images", images, problems);
  }
  return checkModel(settings, environment, problems);
}

/** Checks the settings of a collector. */
export async function checkCollector(
  settings: OptionValues<typeof collectorOptions>,
  _context: Environment,
  problems: Problems,
): Promise<readonly SettingProblem[]> {
  await checkProtection(settings, problems);
  return [];
}
