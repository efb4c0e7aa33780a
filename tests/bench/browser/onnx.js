// A graph as an ONNX file: the few fields of its protocol buffers that a network of convolutions needs.

const IR_VERSION = 8;
const OPSET = 17;
const FLOAT = 1;

const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;

function varint(value) {
  const bytes = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return Buffer.from([...bytes, Number(rest)]);
}

const key = (field, wire) => varint((field << 3) | wire);
const integer = (field, value) => Buffer.concat([key(field, VARINT), varint(value)]);
const bytes = (field, value) => [key(field, BYTES), varint(value.length), value];
const text = (field, value) => Buffer.concat(bytes(field, Buffer.from(value)));
const message = (field, ...parts) => Buffer.concat(bytes(field, Buffer.concat(parts.flat())));
const float = (field, value) => {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return Buffer.concat([key(field, FIXED32), buffer]);
};

/** AttributeProto, of a float (`{ float: 1 }`), an integer or a list of integers. */
function attribute([name, value]) {
  if (Array.isArray(value)) return message(5, text(1, name), ...value.map((each) => integer(8, each)), integer(20, 7));
  if (typeof value === "object") return message(5, text(1, name), float(2, value.float), integer(20, 1));
  return message(5, text(1, name), integer(3, value), integer(20, 2));
}

/** ValueInfoProto of a float tensor. */
const valueInfo = (field, name, shape) =>
  message(field, text(1, name), message(2, message(1, integer(1, FLOAT), message(2, ...shape.map((size) => message(1, integer(1, size)))))));

export class Graph {
  #nodes = [];
  #tensors = [];

  /** Adds a constant and returns its name. */
  constant(values, shape) {
    const name = `c${this.#tensors.length}`;
    const raw = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    this.#tensors.push(message(5, ...shape.map((size) => integer(1, size)), integer(2, FLOAT), text(8, name), Buffer.concat(bytes(9, raw))));
    return name;
  }

  /** Adds a node with one output and returns the output's name. */
  node(op, inputs, attributes = {}, output = `n${this.#nodes.length}`) {
    const named = Object.entries(attributes).map(attribute);
    this.#nodes.push(message(1, ...inputs.map((input) => text(1, input)), text(2, output), text(3, output), text(4, op), ...named));
    return output;
  }

  /** The file; `input` and `output` are `{ name, shape }`. */
  toBytes(input, output) {
    const graph = message(7, ...this.#nodes, text(2, "encoder"), ...this.#tensors, valueInfo(11, input.name, input.shape), valueInfo(12, output.name, output.shape));
    return Buffer.concat([integer(1, IR_VERSION), text(2, "magnet-bench"), graph, message(8, text(1, ""), integer(2, OPSET))]);
  }
}
