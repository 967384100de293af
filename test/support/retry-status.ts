import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { AnySchema, anyPack } from "@bufbuild/protobuf/wkt";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";

/** An encoded `google.rpc.Status` whose details are a RetryInfo, as a collector sends it in `grpc-status-details-bin`. */
export function retryStatus(code: number, delayMs: number): Uint8Array {
  const seconds = BigInt(Math.floor(delayMs / 1000));
  const info = create(RetryInfoSchema, { retryDelay: { seconds, nanos: (delayMs % 1000) * 1_000_000 } });
  return new BinaryWriter()
    .tag(1, WireType.Varint)
    .int32(code)
    .tag(2, WireType.LengthDelimited)
    .string("later")
    .tag(3, WireType.LengthDelimited)
    .bytes(toBinary(AnySchema, anyPack(RetryInfoSchema, info)))
    .finish();
}
