import { formatDuration, printable } from "../../studio/trace-text.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { CommandContext, Output } from "../command.js";
import type { EndedRequest, RequestsView, WatchedRequest } from "../commands/watch-requests.js";
import { createLiveLines } from "./live-lines.js";
import { createProgressLine, type ProgressLine, showQueued, showStage } from "./progress.js";
import { createTextStyle, isInteractive, jsonLine, renderTrace, type TextStyle } from "./terminal.js";

/** A view of requests on a terminal or in a file. */
export interface RequestsDisplay extends RequestsView {
  /** Writes something else, such as the log of a service, without tearing lines. */
  above(write: () => void): void;
  /** Removes the running requests from the terminal. */
  end(): void;
}

type Streams = Pick<CommandContext, "stdout" | "stderr" | "environment">;

const still = { began() {}, queued() {}, progress() {}, answered() {}, end() {} };
const direct = { above: (write: () => void) => write() };

/**
 * Shows requests: running ones as live lines on stderr if that is a terminal, ended ones as a line each on stdout, with the trace as a tree
 * if that is a terminal. `json`: a line of JSON for each ended request; `quiet`: nothing.
 */
export function createRequestsDisplay(streams: Streams, how: { json: boolean; quiet: boolean }): RequestsDisplay {
  const { stdout, stderr, environment } = streams;
  if (how.quiet) {
    return { ...still, ...direct, ended() {} };
  }
  const write = how.json ? endedAsJson : endedAsText(streams);
  const ended = (_: WatchedRequest, request: EndedRequest) => void stdout.write(write(request));
  return isInteractive(stderr, environment) && !how.json
    ? createLiveDisplay(stderr, ended)
    : { ...still, ...direct, ended };
}

function endedAsJson({ traceId, method, statusCode, startUnixNano, durationMs, spans }: EndedRequest): string {
  const startedAt = new Date(Number(startUnixNano / 1_000_000n)).toISOString();
  const request = { kind: "request", traceId, method, statusCode, startedAt, durationMs, ...traceToJson(spans) };
  return jsonLine(request);
}

function endedAsText(streams: Streams): (request: EndedRequest) => string {
  const style = createTextStyle(streams.stdout, streams.environment);
  const withTree = isInteractive(streams.stdout, streams.environment);
  return (request) => {
    const tree = withTree && request.spans.length > 0 ? `${renderTrace(request.spans, streams)}\n` : "";
    return `${describeEnded(request, style)}\n${tree}`;
  };
}

function describeEnded({ traceId, method, statusCode, durationMs }: EndedRequest, style: TextStyle): string {
  const code = style(statusCode === "OK" ? "green" : "red", printable(statusCode));
  const duration = formatDuration(BigInt(Math.round(durationMs * 1e6)));
  return [printable(method), code, duration, ...(traceId === "" ? [] : [`trace ${printable(traceId)}`])].join("  ");
}

/** Maximum number of lines: what scrolls off the terminal cannot be redrawn. */
const mostLines = 8;

function createLiveDisplay(output: Output, ended: RequestsView["ended"]): RequestsDisplay {
  const lines = new Map<WatchedRequest, ProgressLine>();
  const live = createLiveLines(output, (columns) => {
    const drawn = [...lines.entries()].slice(0, mostLines).map(([{ traceId }, line]) => {
      // Enough of the id to distinguish requests.
      const id = `${printable(traceId).slice(0, 8)}  `;
      return `${id}${line.draw(Math.max(0, columns - id.length))}`.slice(0, columns);
    });
    const more = lines.size - drawn.length;
    return more > 0 ? [...drawn, `and ${more} more`.slice(0, columns)] : drawn;
  });
  const update = (request: WatchedRequest, report: (line: ProgressLine) => void): void => {
    const line = lines.get(request);
    if (line !== undefined) {
      report(line);
      live.redraw();
    }
  };
  return {
    began(request) {
      const line = createProgressLine();
      line.phase("running");
      lines.set(request, line);
      live.redraw();
    },
    queued: (request, queued) => update(request, (line) => showQueued(line, queued)),
    progress: (request, progress) => update(request, (line) => showStage(line, progress)),
    answered: (request) => update(request, (line) => line.phase("collecting the trace")),
    ended(request, summary) {
      lines.delete(request);
      live.above(() => ended(request, summary));
      live.redraw();
    },
    above: live.above,
    end: live.end,
  };
}
