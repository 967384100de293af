import type { CommandContext } from "../command-context.js";
import { exitCodes } from "../exit-codes.js";
import { findModel, showDownload } from "../service/find-model.js";
import type { doctorSettings } from "../settings/doctor-settings.js";
import { readHubVariables } from "../settings/hub-variables.js";
import type { SettingsOf } from "../settings/setting.js";
import { createProgress } from "../terminal/progress.js";
import { isInteractive } from "../terminal/terminal.js";
import { type Finding, wrong } from "./doctor-finding.js";
import { examineMachine } from "./doctor-machine.js";
import { examinePainting, type PaintingExamination } from "./doctor-painting.js";
import { renderFindings } from "./doctor-report.js";
import { examineCollector, examineHub, examineImageStore, examinePort } from "./doctor-surroundings.js";

type DoctorSettings = SettingsOf<typeof doctorSettings>;

const host = "127.0.0.1";
const publicHub = "https://huggingface.co";

/** Says what this machine can do, and what to do about what it cannot. Exit code 0 means that a picture was painted. */
export async function runDoctor(settings: DoctorSettings, context: CommandContext): Promise<number> {
  const { json } = settings;
  const { stdout } = context;
  const around = [...(await examineMachine()), ...(await examineSurroundings(settings, context))];
  const { findings: ofPainting, nodes, painted } = await examineModel(settings, context);
  const findings = [...around, ...ofPainting];
  stdout.write(
    json
      ? `${JSON.stringify({ canPaint: painted, findings, nodes: nodes ?? {} })}\n`
      : renderFindings(findings, { coloured: stdout.isTTY === true }),
  );
  return painted ? exitCodes.done : exitCodes.failed;
}

async function examineSurroundings(settings: DoctorSettings, { environment }: CommandContext): Promise<Finding[]> {
  return [
    await examinePort("pipeline", host, settings.pipelinePort),
    await examinePort("worker", host, settings.workerPort),
    await examinePort("collector", host, settings.collectorPort),
    await examineCollector(environment),
    await examineImageStore(settings.images),
    ...(settings.hub ? [await examineHub(readHubVariables(environment).endpoint ?? publicHub, environment)] : []),
  ];
}

async function examineModel(settings: DoctorSettings, context: CommandContext): Promise<PaintingExamination> {
  const { model, device, precision, threads, json } = settings;
  const { stderr, environment, interrupt } = context;
  const progress = createProgress(context, json);
  try {
    const modelFolder = await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
    progress.phase("painting a small picture");
    return await examinePainting({
      modelFolder,
      device,
      precision,
      signal: interrupt,
      ...(threads > 0 && { threads }),
    });
  } catch (error) {
    interrupt.throwIfAborted();
    const found = error instanceof Error ? error.message : String(error);
    return { findings: [wrong("model", found, "--model takes a folder or a model of the Hub")], painted: false };
  } finally {
    progress.end();
  }
}
