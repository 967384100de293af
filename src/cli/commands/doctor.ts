import type { CommandContext } from "../command.js";
import { exitCodes, messageOf } from "../errors.js";
import type { doctorOptions } from "../options/command-options.js";
import { readHubVariables } from "../options/model-options.js";
import type { OptionValues } from "../options/option.js";
import { findLoras } from "../services/loras.js";
import { findModel, showDownload, threadsOf } from "../services/model.js";
import { createProgress } from "../terminal/progress.js";
import { isInteractive } from "../terminal/terminal.js";
import { type Finding, renderFindings, wrong } from "./doctor-findings.js";
import { checkCollector, checkHub, checkImageStore, checkMachine, checkPort } from "./doctor-machine.js";
import { checkInference, type ModelCheck } from "./doctor-model.js";

type DoctorSettings = OptionValues<typeof doctorOptions>;

const host = "127.0.0.1";
const publicHub = "https://huggingface.co";

/** Checks this machine and reports how to fix what is wrong. Exit code 0 means that an image was generated. */
export async function runDoctor(settings: DoctorSettings, context: CommandContext): Promise<number> {
  const { json } = settings;
  const { stdout } = context;
  const around = [...(await checkMachine()), ...(await checkEnvironment(settings, context))];
  const { findings: ofModel, nodes, generated } = await checkModel(settings, context);
  const findings = [...around, ...ofModel];
  stdout.write(
    json
      ? `${JSON.stringify({ canGenerate: generated, findings, nodes: nodes ?? {} })}\n`
      : renderFindings(findings, { colored: stdout.isTTY === true }),
  );
  return generated ? exitCodes.done : exitCodes.failed;
}

async function checkEnvironment(settings: DoctorSettings, { environment }: CommandContext): Promise<Finding[]> {
  return [
    await checkPort("pipeline", host, settings.pipelinePort),
    await checkPort("worker", host, settings.workerPort),
    await checkPort("collector", host, settings.collectorPort),
    await checkCollector(environment),
    await checkImageStore(settings.images),
    ...(settings.hub ? [await checkHub(readHubVariables(environment).endpoint ?? publicHub, environment)] : []),
  ];
}

async function checkModel(settings: DoctorSettings, context: CommandContext): Promise<ModelCheck> {
  const { model, device, precision, json } = settings;
  const { stderr, environment, interrupt } = context;
  const progress = createProgress(context, json);
  try {
    const modelFolder = await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
    const loras = await findLoras(settings);
    progress.phase("generating a small image");
    const threads = await threadsOf(settings.threads);
    return await checkInference({
      modelFolder,
      loras,
      device,
      precision,
      signal: interrupt,
      threads,
    });
  } catch (error) {
    interrupt.throwIfAborted();
    const found = messageOf(error);
    return { findings: [wrong("model", found, "--model takes a folder or a model of the Hub")], generated: false };
  } finally {
    progress.end();
  }
}
