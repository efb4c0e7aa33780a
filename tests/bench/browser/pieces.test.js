// What the bench is made of, without a browser: the peer must get the same network, in the format's own bytes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../../browser/material.js";
import { Graph } from "./onnx.js";
import { folded, onnxOf } from "./resnet.js";
import { encoderOfBundle, half, readSafetensors, writeSafetensors } from "./weights.js";

test("bench: a graph has the bytes that the onnx package of Python writes", () => {
  const graph = new Graph();
  const weights = graph.constant(Float32Array.of(0.5), [1, 1, 1, 1]);
  const map = graph.node("Conv", ["x", weights], { kernel_shape: [1, 1], strides: [2, 2] }, "y");
  const leaky = graph.node("LeakyRelu", [map], { alpha: { float: 0.25 } }, "z");
  graph.node("Flatten", [leaky], { axis: 1 }, "features");
  const file = graph.toBytes({ name: "x", shape: [1, 1, 300, 2] }, { name: "features", shape: [1, 150] });
  // helper.make_model(…, ir_version=8).SerializeToString(), onnx 1.23.2
  const expected =
    "0808120c6d61676e65742d62656e63683aee010a3c0a01780a0263301201791a01792204436f6e762a150a0c6b65726e656c5f7368617065" +
    "40014001a001072a100a077374726964657340024002a001070a250a017912017a1a017a22094c65616b7952656c752a0f0a05616c706861" +
    "150000803ea001010a2d0a017a120866656174757265731a0866656174757265732207466c617474656e2a0b0a04617869731801a0010212" +
    "07656e636f6465722a1408010801080108011001420263304a040000003f5a1c0a017812170a15080112110a0208010a0208010a0308ac02" +
    "0a020802621b0a086665617475726573120f0a0d080112090a0208010a0308960142040a001011";
  assert.equal(file.toString("hex"), expected);
});

test("bench: half precision and safetensors are read as they are meant", () => {
  assert.deepEqual([0x3c00, 0xc000, 0x3555, 0x0001, 0x8000].map(half), [1, -2, 0.333251953125, 2 ** -24, -0]);
  assert.equal(half(0x7c00), Infinity);
  const tensors = { b: { shape: [2], values: Float32Array.of(1, -2) }, a: { shape: [1, 1], values: Float32Array.of(3) } };
  assert.deepEqual(readSafetensors(writeSafetensors(tensors)).tensors, tensors);
});

test("bench: batch norm folds into weights and bias", () => {
  const vector = (value) => ({ shape: [1], values: Float32Array.of(value) });
  const tensors = {
    "conv.weight": { shape: [1, 2, 1, 1], values: Float32Array.of(2, 4) },
    "bn.weight": vector(3),
    "bn.bias": vector(5),
    "bn.running_mean": vector(1),
    "bn.running_var": vector(4 - 1e-5),
  };
  const { weights, bias } = folded(tensors, "conv", "bn", [1, 10]);
  assert.deepEqual([...weights].map((value) => value.toFixed(4)), ["3.0000", "60.0000"]);
  assert.equal(bias[0].toFixed(4), "3.5000");
});

test("bench: every model of the page has an encoder to compare", () => {
  const models = join(ROOT, "web/models");
  for (const { file } of JSON.parse(readFileSync(join(models, "catalogue.json"), "utf8")).models) {
    const encoder = encoderOfBundle(readFileSync(join(models, file)));
    const { width } = onnxOf({ ...encoder, name: file }, 2);
    assert.equal(width, encoder.tensors["fc.bias"].shape[0]);
  }
});
