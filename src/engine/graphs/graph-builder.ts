import { isAbsolute, relative, sep } from "node:path";
import type { LayerShape, LoraChange, LoraChanges } from "../weights/lora.js";
import { rowsOf, type TensorLocation, WeightError, type WeightSource } from "../weights/tensor-location.js";
import {
  type Attributes,
  type Dimension,
  type ElementType,
  elementTypes,
  encodeModel,
  encodeNode,
  encodeTensor,
  encodeValueInfo,
} from "./onnx-writer.js";
import { type Operators, operatorsFor } from "./operators.js";

/** A value of the graph, by its name. */
export type Value = string;

/** What a graph computes in. */
export type ComputeType = "float32" | "float16";

export interface GraphOptions {
  readonly weights: WeightSource;
  readonly compute: ComputeType;
  /** Absolute path of the folder that the locations of weights are relative to; every file lies below it. */
  readonly root: string;
  /** @default those of the CPU */
  readonly operators?: Operators;
  /**
   * LoRAs, by what they change. The scale of each is an input of the graph, so that another one needs no other graph; see
   * `loraScaleInput`. @default none
   */
  readonly loras?: readonly LoraChanges[];
}

/** Name of the input with the scale of a LoRA, by its place among those of the graph. A scalar. */
export function loraScaleInput(index: number): string {
  return `lora_scale.${index}`;
}

export interface WeightView {
  /** First row and number of rows. @default all */
  readonly rows?: readonly [start: number, count: number];
  /** A shape of as many values to see it in. @default its own */
  readonly dimensions?: readonly number[];
}

/** A graph as onnxruntime opens it. Its weights stay in their files. */
export interface BuiltGraph {
  readonly model: Uint8Array;
  /** Names, as in the files, of the tensors that the graph reads. */
  readonly used: ReadonlySet<string>;
  /** Weights of linear layers and convolutions, by the names of diffusers and transformers: what LoRAs can change. */
  readonly layers: ReadonlyMap<string, LayerShape>;
}

/** Collects the nodes of one graph over weights that stay where they are. Every method throws WeightError for a tensor that does not fit. */
export interface GraphBuilder {
  readonly compute: ComputeType;
  readonly operators: Operators;
  input(name: string, type: ElementType, shape: readonly Dimension[]): Value;
  /** Declares an output, of the type that the graph computes in. */
  output(value: Value, name: string, shape: readonly Dimension[]): void;
  /** Adds a node of ONNX's own operators and returns its one output. */
  node(operator: string, inputs: readonly Value[], attributes?: Attributes): Value;
  /** Adds a node of onnxruntime's operators (`com.microsoft`). */
  fused(operator: string, inputs: readonly Value[], attributes?: Attributes): Value;
  /** Makes a value once for each key. */
  once(key: string, make: () => Value): Value;
  cast(value: Value, to: ElementType): Value;
  /** An int64 constant of one dimension. */
  ints(...values: number[]): Value;
  /** A constant. @param type @default what the graph computes in */
  floats(values: ArrayLike<number>, dimensions: readonly number[], type?: ElementType): Value;
  has(name: string): boolean;
  location(name: string): TensorLocation;
  shape(name: string): readonly number[];
  /** A weight of the given shape, in the type that the graph computes in. */
  weight(name: string, shape: readonly number[], view?: WeightView): Value;
  /** Rows of a table by their indices. */
  gather(name: string, shape: readonly number[], indices: Value): Value;
  /** Counts a tensor as known that this graph has no need of. */
  skip(name: string): void;
  build(): BuiltGraph;
}

/** The element types that weights are read in. */
const storedTypes: Readonly<Record<string, ElementType>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };
const microsoft = "com.microsoft";
const operatorSets = { "": 20, [microsoft]: 1 };

export function createGraphBuilder({
  weights,
  compute,
  root,
  loras = [],
  operators = operatorsFor("cpu"),
}: GraphOptions): GraphBuilder {
  /**
   * Nodes that depend on weights alone. They stand before all others, because onnxruntime visits the inputs of a node from the last in the
   * graph to the first: behind the node that makes a layer's other input, a cast would run before all that this node depends on, and a run
   * would begin with a copy of nearly all weights.
   */
  const weightNodes: Uint8Array[] = [];
  const nodes: Uint8Array[] = [];
  const initializers: Uint8Array[] = [];
  const inputs: Uint8Array[] = [];
  const outputs: Uint8Array[] = [];
  const known = new Map<string, Value>();
  const used = new Set<string>();
  const layers = new Map<string, LayerShape>();
  let count = 0;

  function addNode(
    to: Uint8Array[],
    operator: string,
    from: readonly Value[],
    attributes: Attributes,
    domain = "",
  ): Value {
    const name = `${operator}_${count++}`;
    to.push(encodeNode(operator, from, [name], attributes, domain));
    return name;
  }

  function once(key: string, make: () => Value): Value {
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  }

  function constant(type: ElementType, dimensions: readonly number[], raw: Uint8Array): Value {
    const name = `constant_${count++}`;
    initializers.push(encodeTensor(name, type, dimensions, { raw }));
    return name;
  }

  function location(name: string): TensorLocation {
    const found = weights.find(name);
    if (found === undefined) {
      throw new WeightError(weights.label, `a tensor ${name}`, "none");
    }
    used.add(found.name);
    return found;
  }

  function checked(name: string, shape: readonly number[]): TensorLocation {
    const found = location(name);
    if (found.shape.join() !== shape.join()) {
      throw new WeightError(weights.label, `${found.name} of shape [${shape}]`, `[${found.shape}]`);
    }
    if (storedTypes[found.dtype] === undefined) {
      const types = Object.keys(storedTypes).join(", ");
      throw new WeightError(weights.label, `${found.name} of type ${types}`, found.dtype);
    }
    if (found.length === 0) {
      throw new WeightError(weights.label, `values in ${found.name}`, `none: its shape is [${found.shape}]`);
    }
    return found;
  }

  /** The values as they are stored. */
  function stored(name: string, { file, offset, length, dtype }: TensorLocation, shape: readonly number[]): Value {
    const path = relative(root, file);
    if (path.startsWith("..") || isAbsolute(path)) {
      throw new Error(`${file} lies outside ${root}`);
    }
    const content = { location: path.split(sep).join("/"), offset, length };
    initializers.push(encodeTensor(name, storedTypes[dtype] ?? "float32", shape, content));
    return name;
  }

  /** The stored values in the type that the graph computes in. */
  function converted(name: string, location: TensorLocation, shape: readonly number[]): Value {
    const value = stored(name, location, shape);
    return storedTypes[location.dtype] === compute
      ? value
      : addNode(weightNodes, "Cast", [value], { to: elementTypes[compute] });
  }

  function input(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    inputs.push(encodeValueInfo(name, type, shape));
    return name;
  }

  function ints(...values: number[]): Value {
    return once(`ints ${values}`, () =>
      constant("int64", [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer)),
    );
  }

  function floats(values: ArrayLike<number>, dimensions: readonly number[], type: ElementType = compute): Value {
    const data = Float32Array.from(values);
    return once(`floats ${type} ${dimensions.join()} ${data.join()}`, () => {
      const value = constant("float32", dimensions, new Uint8Array(data.buffer));
      return type === "float32" ? value : addNode(weightNodes, "Cast", [value], { to: elementTypes[type] });
    });
  }

  /** Remember a weight that LoRAs can change, as [out, in, …]. */
  function noteLayer(name: string, { shape, transposed = false }: TensorLocation): void {
    if (shape.length >= 2) {
      layers.set(name, { shape: transposed ? [...shape].reverse() : shape });
    }
  }

  /** The scale of a LoRA times alpha / rank. */
  function loraScale(index: number, factor: number): Value {
    return once(`scale of LoRA ${index} ${factor}`, () => {
      const scale = once(loraScaleInput(index), () => input(loraScaleInput(index), "float32", []));
      const product = addNode(weightNodes, "Mul", [scale, floats([factor], [], "float32")], {});
      return compute === "float32" ? product : addNode(weightNodes, "Cast", [product], { to: elementTypes[compute] });
    });
  }

  /** W + Σ scale · up · down, as matrices; the larger of the products is Gemm's own. */
  function withLoras(
    { key, name, rows }: { readonly key: string; readonly name: string; readonly rows: WeightView["rows"] },
    weight: TensorLocation,
    changes: readonly IndexedChange[],
  ): Value {
    const matrix = converted(key, weight, matrixShape(weight));
    return changes.reduce((sum, { index, change: { down, up, factor } }) => {
      const upRows = rows === undefined ? up : rowsOf(up, ...rows);
      // Rows of a weight have the whole of this factor in common.
      const first = once(`LoRA ${index} ${name}`, () => converted(`${name} down ${index}`, down, matrixShape(down)));
      const second = converted(`${key} up ${index}`, upRows, matrixShape(upRows));
      const scaled = addNode(weightNodes, "Mul", [second, loraScale(index, factor)], {});
      return weight.transposed
        ? addNode(weightNodes, "Gemm", [first, scaled, sum], { transA: 1, transB: 1 })
        : addNode(weightNodes, "Gemm", [scaled, first, sum], {});
    }, matrix);
  }

  return {
    compute,
    operators,
    input,
    output(value, name, shape) {
      nodes.push(encodeNode("Identity", [value], [name], {}, ""));
      outputs.push(encodeValueInfo(name, compute, shape));
    },
    node: (operator, from, attributes = {}) => addNode(nodes, operator, from, attributes),
    fused: (operator, from, attributes = {}) => addNode(nodes, operator, from, attributes, microsoft),
    once,
    cast: (value, to) => addNode(nodes, "Cast", [value], { to: elementTypes[to] }),
    ints,
    floats,
    has: (name) => weights.find(name) !== undefined,
    location,
    shape: (name) => location(name).shape,
    weight(name, shape, { rows, dimensions } = {}) {
      const key = `weight ${name} ${rows ?? ""} ${dimensions ?? ""}`;
      return once(key, () => {
        const whole = checked(name, shape);
        noteLayer(name, whole);
        const part = rows === undefined ? whole : rowsOf(whole, ...rows);
        const wanted = dimensions ?? part.shape;
        const changes = loras.flatMap((lora, index) => {
          const change = lora.get(name);
          return change === undefined ? [] : [{ index, change }];
        });
        if (changes.length === 0) {
          return converted(key, part, wanted);
        }
        const sum = withLoras({ key, name, rows }, part, changes);
        return wanted.length === 2 ? sum : addNode(weightNodes, "Reshape", [sum, ints(...wanted)], {});
      });
    },
    gather(name, shape, indices) {
      const table = checked(name, shape);
      if (operators.cast === "table") {
        return addNode(nodes, "Gather", [converted(`table ${name}`, table, table.shape), indices], {});
      }
      const rows = addNode(nodes, "Gather", [stored(`table ${name}`, table, table.shape), indices], {});
      return storedTypes[table.dtype] === compute
        ? rows
        : addNode(nodes, "Cast", [rows], { to: elementTypes[compute] });
    },
    skip(name) {
      const found = weights.find(name);
      if (found !== undefined) {
        used.add(found.name);
        noteLayer(name, found);
      }
    },
    build: () => ({
      model: encodeModel({ nodes: [...weightNodes, ...nodes], initializers, inputs, outputs }, operatorSets),
      used,
      layers,
    }),
  };
}

interface IndexedChange {
  readonly index: number;
  readonly change: LoraChange;
}

/** A kernel's sides belong to its columns. */
function matrixShape({ shape: [rows = 1, ...rest] }: TensorLocation): readonly [number, number] {
  return [rows, rest.reduce((product, side) => product * side, 1)];
}
