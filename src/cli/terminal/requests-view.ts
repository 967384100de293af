import { formatDuration, printable } from "../../studio/trace-text.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { CommandContext, Output } from "../command-context.js";
import type { EndedRequest, RequestsView, WatchedRequest } from "../request/watch-requests.js";
import { jsonLine } from "./json-line.js";
import { createLiveLines } from "./live-lines.js";
import { tellPainting, tellQueued } from "./painting-news.js";
import { createProgressLine, type ProgressLine } from "./progress-line.js";
import { createTextStyle, isInteractive, type TextStyle } from "./terminal.js";
import { renderTrace } from "./trace-view.js";

/** A view of requests on a terminal or in a file. */
export interface RequestsDisplay extends RequestsView {
  /** Writes something else, such as a service's log, without tearing lines. */
  above(write: () => void): void;
  /** Takes what moves off the terminal. */
  end(): void;
}

type Streams = Pick<CommandContext, "stdout" | "stderr" | "environment">;

const still = { began() {}, queued() {}, painting() {}, answered() {}, end() {} };
const direct = { above: (write: () => void) => write() };

/**
 * Shows requests to whoever looks: running ones as lines that move on stderr, where that is a terminal; each that has ended as a line on
 * stdout, with its trace as a tree where that is a terminal. `json`: each that has ended as a line of JSON; `quiet`: none.
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

/** Most requests that have a line; terminals have few lines, and what is above the first cannot be drawn anew. */
const mostLines = 8;

function createLiveDisplay(output: Output, ended: RequestsView["ended"]): RequestsDisplay {
  const lines = new Map<WatchedRequest, ProgressLine>();
  const live = createLiveLines({
    output,
    draw(columns) {
      const drawn = [...lines.entries()].slice(0, mostLines).map(([{ traceId }, line]) => {
        // As much of the id as tells requests apart.
        const id = `${printable(traceId).slice(0, 8)}  `;
        return `${id}${line.draw(Math.max(0, columns - id.length))}`.slice(0, columns);
      });
      const more = lines.size - drawn.length;
      return more > 0 ? [...drawn, `and ${more} more`.slice(0, columns)] : drawn;
    },
  });
  const tell = (request: WatchedRequest, news: (line: ProgressLine) => void): void => {
    const line = lines.get(request);
    if (line !== undefined) {
      news(line);
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
    queued: (request, queued) => tell(request, (line) => tellQueued(line, queued)),
    painting: (request, painting) => tell(request, (line) => tellPainting(line, painting)),
    answered: (request) => tell(request, (line) => line.phase("collecting the trace")),
    ended(request, told) {
      lines.delete(request);
      live.above(() => ended(request, told));
      live.redraw();
    },
    above: live.above,
    end: live.end,
  };
}
