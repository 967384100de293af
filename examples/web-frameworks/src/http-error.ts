import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";

/** An error of the pipeline as an HTTP answer: the pipeline's messages are written for callers and quote nothing of the request. */
export function httpError(error: unknown): { readonly status: number; readonly body: { readonly error: string } } {
  const { code, rawMessage } = ConnectError.from(error);
  // Other codes mean a fault of ours; what is behind it is no business of the browser.
  const ofCaller = [
    Code.InvalidArgument,
    Code.NotFound,
    Code.ResourceExhausted,
    Code.DeadlineExceeded,
    Code.Unavailable,
  ];
  return {
    status: codeToHttpStatus(code),
    body: { error: ofCaller.includes(code) ? rawMessage : "the image could not be generated" },
  };
}
