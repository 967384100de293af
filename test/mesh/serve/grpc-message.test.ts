import assert from "node:assert/strict";
import test from "node:test";
import { respellGrpcMessage } from "../../../src/mesh/serve/grpc-message.js";

test("a message is spelt as gRPC asks: only what is not printable ASCII, and %, is encoded", () => {
  for (const message of ["the time ran out: denoising, step 2 of 9", "100 % of 64×64 (ü)\n~!", "❤️ a%3Ab"]) {
    const trailer = new Headers({ "grpc-message": encodeURIComponent(message) });
    respellGrpcMessage(trailer);
    const spelt = trailer.get("grpc-message") ?? "";
    assert.match(spelt, /^[\x20-\x7e]*$/);
    assert.equal(decodeURIComponent(spelt), message);
  }
  const plain = new Headers({ "grpc-message": encodeURIComponent("a: b, c?") });
  respellGrpcMessage(plain);
  assert.equal(plain.get("grpc-message"), "a: b, c?");
});

test("a trailer without a message stays without", () => {
  const trailer = new Headers({ "grpc-status": "0" });
  respellGrpcMessage(trailer);
  assert.equal(trailer.has("grpc-message"), false);
});
