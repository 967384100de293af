import type { DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/**
 * Finds a map with more than `limit` pairs in a binary message, and returns its path of proto names; undefined where there is none. Only
 * tags are read, because a megabyte of short pairs takes a second to decode and more to check. What is no message is left to the decoder.
 */
export function findLargeMap(schema: DescMessage, bytes: Uint8Array, limit: number): string | undefined {
  const pairs = new Map<number, number>();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = schema.fields.find((each) => each.number === number);
    if (field?.fieldKind === "map") {
      const count = (pairs.get(number) ?? 0) + 1;
      if (count > limit) {
        return field.name;
      }
      pairs.set(number, count);
    }
    if (field?.fieldKind === "message" && wireType === WireType.LengthDelimited) {
      const found = findLargeMap(field.message, reader.bytes(), limit);
      if (found !== undefined) {
        return `${field.name}.${found}`;
      }
    } else {
      reader.skip(wireType, number);
    }
  }
  return undefined;
}
