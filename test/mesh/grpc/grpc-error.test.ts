import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { connectErrorFromGrpc } from "../../../src/mesh/grpc/grpc-error.js";

function serviceError(code: number, details: string, metadata = new grpc.Metadata()): Error {
  return Object.assign(new Error(`${code}: ${details}`), { code, details, metadata });
}

suite("connectErrorFromGrpc", () => {
  const local: readonly (readonly [details: string, text: string])[] = [
    [
      "No connection established. Last error: connect ECONNREFUSED 127.0.0.1:50052. Resolution note: ",
      "the server cannot be reached",
    ],
    ["No connection established", "the server cannot be reached"],
    ["Name resolution failed for target dns:worker.internal:50052", "the server cannot be reached"],
    [
      "Name resolution failed for target dns:x Error: getaddrinfo ENOTFOUND worker.internal",
      "the server cannot be reached",
    ],
    ["Failed to start HTTP/2 stream with error Invalid session", "the server cannot be reached"],
    ["some new text about connect ETIMEDOUT 10.0.0.7:50052", "the server cannot be reached"],
    ["some new text about 10.0.0.7:50052", "the server cannot be reached"],
    ["some new text about [::1]:50052", "the server cannot be reached"],
    ["Connection dropped", "the connection to the server was lost"],
    ["read ECONNRESET", "the connection to the server was lost"],
    ["Stream refused by server", "the connection to the server was lost"],
    [
      "Received RST_STREAM with code 2 triggered by internal client error: read ECONNRESET",
      "the connection to the server was lost",
    ],
    ["Received HTTP status code 503", "the connection to the server was lost"],
    [
      "Deadline exceeded after 0.301s,name resolution: 0.002s,LB pick: 0.001s,remote_addr=127.0.0.1:50052",
      "the time ran out before the server answered",
    ],
    ["Cancelled on client", "the call was cancelled"],
    ["Response message parsing error: invalid wire type 7", "the message cannot be encoded or decoded"],
  ];
  for (const [details, text] of local) {
    test(`says "${text}" for "${details.slice(0, 60)}"`, () => {
      const thrown = serviceError(grpc.status.UNAVAILABLE, details);
      const error = connectErrorFromGrpc(thrown);
      assert.equal(error.rawMessage, text);
      assert.equal(error.code, Code.Unavailable);
      assert.equal(error.cause, thrown);
    });
  }

  test("a lost connection is UNAVAILABLE, also where grpc-js says INTERNAL", () => {
    const details = "Received RST_STREAM with code 0 (Call ended without gRPC status)";
    assert.equal(connectErrorFromGrpc(serviceError(grpc.status.INTERNAL, details)).code, Code.Unavailable);
    assert.equal(connectErrorFromGrpc(serviceError(grpc.status.INTERNAL, "a server's own")).code, Code.Internal);
  });

  test("keeps what a server says", () => {
    for (const said of ["the queue is full: 5 requests wait", "Eight of them", "time 12:30, 100.5 %", ""]) {
      assert.equal(connectErrorFromGrpc(serviceError(8, said)).rawMessage, said);
    }
  });

  test("maps each code to itself, and what is no error code to UNKNOWN", () => {
    for (let code = 1; code <= 16; code++) {
      assert.equal(connectErrorFromGrpc(serviceError(code, "")).code, code);
    }
    for (const code of [0, 17, -1]) {
      assert.equal(connectErrorFromGrpc(serviceError(code, "")).code, Code.Unknown);
    }
  });

  test("does without details that cannot be read", () => {
    const metadata = new grpc.Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from("ffffff", "hex"));
    const error = connectErrorFromGrpc(serviceError(grpc.status.NOT_FOUND, "gone", metadata));
    assert.equal(error.rawMessage, "gone");
    assert.deepEqual(error.details, []);
  });

  test("keeps a ConnectError", () => {
    const error = new ConnectError("mine", Code.Aborted);
    assert.equal(connectErrorFromGrpc(error), error);
  });
});
