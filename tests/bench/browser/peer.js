// onnxruntime-web, from patches that lie in its own layout already to features in JavaScript's memory.
import { answer, file, patches } from "./worker.js";

answer(async ({ module, provider, threads, onnx, side, count }) => {
  const ort = await import(new URL(`./ort/${module}`, import.meta.url));
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(await file(onnx), {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
  });
  const rgb = patches(count, side);
  const planes = new Float32Array(rgb.length);
  const area = side * side;
  for (let at = 0; at < rgb.length; at += 1) {
    const [pixel, channel] = [Math.floor(at / 3), at % 3];
    const [patch, place] = [Math.floor(pixel / area), pixel % area];
    planes[(3 * patch + channel) * area + place] = rgb[at] / 255;
  }
  const input = { patches: new ort.Tensor("float32", planes, [count, 3, side, side]) };
  return async () => (await session.run(input)).features.data;
});
