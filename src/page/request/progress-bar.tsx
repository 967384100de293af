import { useMemo } from "preact/hooks";
import { Stage } from "../../contracts/contracts.js";
import { useNow, useObjectUrl } from "../shell/hooks.js";
import { type Running, timeLeftMs } from "./generation.js";
import { phaseLabel, progressDetail } from "./progress-text.js";

/** A URL for the preview of what runs; undefined for none. */
export function usePreviewUrl(running: Running | undefined): string | undefined {
  const preview = running?.preview;
  const blob = useMemo(
    () => preview && new Blob([new Uint8Array(preview.bytes)], { type: preview.contentType }),
    [preview],
  );
  return useObjectUrl(blob);
}

/** Steps above which the bar has no notches: they would be too close. */
const mostNotches = 40;

/** Stage, step and time left of what runs, and a bar with its steps. */
export function ProgressBar({ running, tailMs }: { running: Running; tailMs: number }) {
  const now = useNow(true, 250);
  const denoising = running.phase.kind === "stage" && running.phase.stage === Stage.DENOISING;
  const left = denoising ? timeLeftMs(running.marks, running.totalSteps, tailMs, now) : undefined;
  const detail = progressDetail(running, left);
  const { step, totalSteps } = running;
  return (
    <div class="progress">
      <div class="progress-text">
        <span>{phaseLabel(running)}</span>
        <span class="muted figures">{detail}</span>
      </div>
      <div
        class={`steps${totalSteps > 0 ? "" : " is-waiting"}${totalSteps > mostNotches ? " is-plain" : ""}`}
        style={{ "--steps": String(Math.max(1, totalSteps)) }}
        role="progressbar"
        aria-label="Steps"
        aria-valuemin={0}
        aria-valuemax={Math.max(1, totalSteps)}
        aria-valuenow={step}
        aria-valuetext={`${phaseLabel(running)} ${detail}`.trim()}
      >
        <div style={{ width: `${totalSteps > 0 ? (100 * step) / totalSteps : 100}%` }} />
      </div>
    </div>
  );
}
