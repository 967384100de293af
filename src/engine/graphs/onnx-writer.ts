/**
 * Encodes ONNX models: the few protobuf messages of onnx.proto that a graph needs, without a library.
 * Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
 */

/** Element types of tensors, with the numbers of `TensorProto.DataType`. */
export const elementTypes = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
  bfloat16: 16,
} as const;
export type ElementType = keyof typeof elementTypes;

/** `{ float: 1 }` is a float attribute, a plain number an integer one. */
export type Attribute = number | string | readonly number[] | { readonly float: number };
export type Attributes = Readonly<Record<string, Attribute>>;

/** A number is a fixed dimension, a text a symbolic one. */
export type Dimension = number | string;

/** Values inside the graph, or a range of bytes in another file. */
export type TensorContent =
  | { readonly raw: Uint8Array }
  | { readonly location: string; readonly offset: number; readonly length: number };

/** The content of one graph; each entry is encoded already. */
export interface GraphParts {
  readonly nodes: readonly Uint8Array[];
  readonly initializers: readonly Uint8Array[];
  readonly inputs: readonly Uint8Array[];
  readonly outputs: readonly Uint8Array[];
}

/** `AttributeProto.AttributeType`. */
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const;
const varintWire = 0;
const lengthWire = 2;
const fixed32Wire = 5;

/** File format version that onnxruntime 1.30 and its predecessors down to 1.18 read. */
const irVersion = 10;
const externalData = 1;

export function encodeNode(
  operator: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Attributes,
  domain: string,
): Uint8Array {
  return Buffer.concat([
    ...inputs.map((name) => bytesField(1, name)),
    ...outputs.map((name) => bytesField(2, name)),
    bytesField(3, outputs[0] ?? ""),
    bytesField(4, operator),
    ...Object.entries(attributes).map(([name, value]) => bytesField(5, encodeAttribute(name, value))),
    ...(domain === "" ? [] : [bytesField(7, domain)]),
  ]);
}

export function encodeTensor(
  name: string,
  type: ElementType,
  dimensions: readonly number[],
  content: TensorContent,
): Uint8Array {
  const entry = (key: string, value: string): Buffer =>
    bytesField(13, Buffer.concat([bytesField(1, key), bytesField(2, value)]));
  return Buffer.concat([
    ...dimensions.map((dimension) => integerField(1, dimension)),
    integerField(2, elementTypes[type]),
    bytesField(8, name),
    ...("raw" in content
      ? [bytesField(9, content.raw)]
      : [
          entry("location", content.location),
          entry("offset", String(content.offset)),
          entry("length", String(content.length)),
          integerField(14, externalData),
        ]),
  ]);
}

/** An input or output of a graph. No dimensions mean a scalar. */
export function encodeValueInfo(name: string, type: ElementType, dimensions: readonly Dimension[]): Uint8Array {
  const shape = dimensions.map((dimension) =>
    bytesField(1, typeof dimension === "string" ? bytesField(2, dimension) : integerField(1, dimension)),
  );
  const tensorType = Buffer.concat([integerField(1, elementTypes[type]), bytesField(2, Buffer.concat(shape))]);
  return Buffer.concat([bytesField(1, name), bytesField(2, bytesField(1, tensorType))]);
}

/** @param operatorSets version of each domain; "" is ONNX's own. */
export function encodeModel(parts: GraphParts, operatorSets: Readonly<Record<string, number>>): Uint8Array {
  const graph = Buffer.concat([
    ...parts.nodes.map((node) => bytesField(1, node)),
    bytesField(2, "throughline"),
    ...parts.initializers.map((tensor) => bytesField(5, tensor)),
    ...parts.inputs.map((input) => bytesField(11, input)),
    ...parts.outputs.map((output) => bytesField(12, output)),
  ]);
  return Buffer.concat([
    integerField(1, irVersion),
    bytesField(2, "throughline"),
    bytesField(7, graph),
    ...Object.entries(operatorSets).map(([domain, version]) =>
      bytesField(8, Buffer.concat([bytesField(1, domain), integerField(2, version)])),
    ),
  ]);
}

function encodeAttribute(name: string, value: Attribute): Buffer {
  const head = bytesField(1, name);
  const type = (number: number): Buffer => integerField(20, number);
  if (typeof value === "string") {
    return Buffer.concat([head, bytesField(4, value), type(attributeTypes.string)]);
  }
  if (typeof value === "number") {
    return Buffer.concat([head, integerField(3, value), type(attributeTypes.int)]);
  }
  if ("float" in value) {
    return Buffer.concat([head, floatField(2, value.float), type(attributeTypes.float)]);
  }
  return Buffer.concat([head, ...value.map((item) => integerField(8, item)), type(attributeTypes.ints)]);
}

/** Negative numbers take ten bytes, as protobuf's int64 has them. */
function varint(value: number): Buffer {
  if (value >= 0 && value < 0x80) {
    return Buffer.of(value);
  }
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    const low = Number(rest & 0x7fn);
    if (rest < 0x80n) {
      bytes.push(low);
      return Buffer.from(bytes);
    }
    bytes.push(low | 0x80);
  }
}

function tag(field: number, wire: number): Buffer {
  return varint((field << 3) | wire);
}

function integerField(field: number, value: number): Buffer {
  return Buffer.concat([tag(field, varintWire), varint(value)]);
}

function bytesField(field: number, value: string | Uint8Array): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([tag(field, lengthWire), varint(bytes.length), bytes]);
}

function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([tag(field, fixed32Wire), bytes]);
}
