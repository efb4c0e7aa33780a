// An encoder of ours as an ONNX graph, in the form that onnxruntime runs best: batch norm folded, shapes fixed.
import { Graph } from "./onnx.js";

const IMAGENET_MEAN = [0.485, 0.456, 0.406];
const IMAGENET_STD = [0.229, 0.224, 0.225];
const BATCH_NORM_EPSILON = 1e-5;
const POOLING_EPSILON = 1e-6;

/** A convolution's weights and bias with the batch norm behind it folded in, and a factor for each input channel. */
export function folded(tensors, convolution, norm, inputScale) {
  const { shape, values } = tensors[`${convolution}.weight`];
  const of = (name) => tensors[`${norm}.${name}`].values;
  const [gamma, beta, mean, variance] = [of("weight"), of("bias"), of("running_mean"), of("running_var")];
  const [outputs, inputs, kernel] = shape;
  const scale = Float64Array.from(variance, (each, at) => gamma[at] / Math.sqrt(each + BATCH_NORM_EPSILON));
  const area = kernel * kernel;
  const weights = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += 1) {
    const row = Math.floor(at / area);
    const input = inputScale?.[row % inputs] ?? 1;
    weights[at] = values[at] * scale[Math.floor(row / inputs)] * input;
  }
  return { shape, weights, bias: Float32Array.from({ length: outputs }, (_, at) => beta[at] - mean[at] * scale[at]) };
}

/** The ONNX file of `encoder` for `count` patches in 0..1, and how wide its features are. */
export function onnxOf({ tensors, pooling, side, name }, count) {
  const graph = new Graph();
  const convolve = (input, convolution, norm, stride, inputScale) => {
    const { shape, weights, bias } = folded(tensors, convolution, norm, inputScale);
    const [outputs, , kernel] = shape;
    const pad = Math.floor(kernel / 2);
    const names = [input, graph.constant(weights, shape), graph.constant(bias, [outputs])];
    return graph.node("Conv", names, { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] });
  };
  const relu = (input) => graph.node("Relu", [input]);
  const block = (input, at, stride) => {
    const bottleneck = `${at}.conv3.weight` in tensors;
    const shortcut = `${at}.downsample.0.weight` in tensors ? convolve(input, `${at}.downsample.0`, `${at}.downsample.1`, stride) : input;
    let map = relu(convolve(input, `${at}.conv1`, `${at}.bn1`, bottleneck ? 1 : stride));
    map = convolve(map, `${at}.conv2`, `${at}.bn2`, bottleneck ? stride : 1);
    if (bottleneck) map = convolve(relu(map), `${at}.conv3`, `${at}.bn3`, 1);
    return relu(graph.node("Add", [map, shortcut]));
  };

  // The mean is taken out before the padding; the deviation goes into the first convolution.
  const centred = graph.node("Sub", ["patches", graph.constant(Float32Array.from(IMAGENET_MEAN), [1, 3, 1, 1])]);
  let map = relu(convolve(centred, "conv1", "bn1", 2, IMAGENET_STD.map((deviation) => 1 / deviation)));
  map = graph.node("MaxPool", [map], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  let width = tensors["conv1.weight"].shape[0];
  for (let stage = 1; stage <= 4; stage += 1) {
    for (let index = 0; `layer${stage}.${index}.conv1.weight` in tensors; index += 1) {
      const at = `layer${stage}.${index}`;
      map = block(map, at, stage > 1 && index === 0 ? 2 : 1);
      width = (tensors[`${at}.conv3.weight`] ?? tensors[`${at}.conv2.weight`]).shape[0];
    }
  }

  let pooled = graph.node("GlobalAveragePool", [map]);
  if (pooling === "mean_std") {
    const apart = graph.node("Sub", [map, pooled]);
    const variance = graph.node("GlobalAveragePool", [graph.node("Mul", [apart, apart])]);
    const epsilon = graph.constant(Float32Array.of(POOLING_EPSILON), [1]);
    const deviation = graph.node("Sqrt", [graph.node("Add", [variance, epsilon])]);
    pooled = graph.node("Concat", [pooled, deviation], { axis: 1 });
    width *= 2;
  } else if (pooling !== "mean") throw new Error(`${name}: a pooling \`${pooling}\` is not known here`);
  const linear = "fc.weight" in tensors;
  const vector = graph.node("Flatten", [pooled], { axis: 1 }, linear ? undefined : "features");
  if (linear) {
    const { shape, values } = tensors["fc.weight"];
    const { values: bias } = tensors["fc.bias"];
    graph.node("Gemm", [vector, graph.constant(values, shape), graph.constant(bias, [shape[1]])], {}, "features");
    width = shape[1];
  }
  const file = graph.toBytes({ name: "patches", shape: [count, 3, side, side] }, { name: "features", shape: [count, width] });
  return { file, width };
}
