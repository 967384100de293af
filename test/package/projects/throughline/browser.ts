import { createPipelineClient } from "throughline/client";
import { Scheduler } from "throughline/contracts";
import { createClientInterceptor } from "throughline/otelconnect";

/** A web page's code: it is only compiled, where there is no Node. */
export const pipeline = createPipelineClient({ baseUrl: "https://images.example" });
export const scheduler = Scheduler.LCM;
export const interceptor = createClientInterceptor();
