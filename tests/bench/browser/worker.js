// What the two workers share: their patches, their clock, and how they are asked.

/** RGB values of patches, the same for whoever asks. */
export function patches(count, side) {
  const rgb = new Uint8Array(count * side * side * 3);
  let state = 12_345;
  for (let at = 0; at < rgb.length; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    rgb[at] = state >>> 24;
  }
  return rgb;
}

/** The file at an address beside this one. */
export async function file(address) {
  const response = await fetch(new URL(address, import.meta.url));
  if (!response.ok) throw new Error(`${address}: HTTP status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * Answers the page: `open` makes an encoder, that is a function without arguments that returns features; after that each
 * message is the number of calls to make, one after the other, and the answer how long one of them took.
 */
export function answer(open) {
  let encode;
  self.onmessage = async ({ data }) => {
    try {
      if (!encode) {
        encode = await open(data);
        self.postMessage({ opened: true });
        return;
      }
      let features;
      const began = performance.now();
      for (let call = 0; call < data; call += 1) features = await encode();
      self.postMessage({ ms: (performance.now() - began) / data, features });
    } catch (error) {
      self.postMessage({ failed: String(error?.message ?? error) });
    }
  };
}
