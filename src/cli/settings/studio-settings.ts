import { optionalSetting, setting } from "./setting.js";
import { httpUrl, text, traceUrl, truth } from "./setting-schemas.js";

/** Settings of a pipeline's studio. */
export const studioSettings = {
  studio: setting({
    flag: "studio",
    variable: "THROUGHLINE_STUDIO",
    schema: truth,
    default: "false",
    help: "Serve the studio: its page to anybody at /, and what it shows to those who may call",
  }),
  studioCollector: optionalSetting({
    flag: "studio-collector",
    argument: "url",
    variable: "THROUGHLINE_STUDIO_COLLECTOR",
    schema: httpUrl,
    absent: "the studio has no traces",
    help: "Base URL of the throughline collector that the studio asks for traces and for the map",
  }),
  traceUrl: optionalSetting({
    flag: "trace-url",
    argument: "template",
    variable: "THROUGHLINE_TRACE_URL",
    schema: traceUrl,
    absent: "no link",
    help: "URL of a trace in another backend for the studio to link to, {traceId} in the place of the id",
  }),
  traceBackend: optionalSetting({
    flag: "trace-backend",
    argument: "name",
    variable: "THROUGHLINE_TRACE_BACKEND",
    schema: text,
    absent: "the host in --trace-url",
    help: "Name of that backend, such as Jaeger",
  }),
};
