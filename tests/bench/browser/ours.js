// The engine's encoder, from RGB bytes to features in JavaScript's memory.
import init, { Encoder } from "./magnet-engine.js";
import { answer, file, patches } from "./worker.js";

answer(async ({ gpu, weights, frozen, side, count }) => {
  await init();
  const encoder = await Encoder.open(gpu, await file(weights), frozen);
  const rgb = patches(count, side);
  return () => encoder.encode(rgb, side);
});
