// Weights of an encoder: read from a bundle, or drawn for a ResNet-50 of torchvision's names.

/** Tensors of a safetensors file as `{ shape, values }` by name, and its metadata. */
export function readSafetensors(file) {
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__: metadata = {}, ...head } = JSON.parse(file.subarray(8, 8 + length).toString("utf8"));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(head)) {
    const data = file.subarray(8 + length + from, 8 + length + to);
    tensors[name] = { shape, values: floats(name, dtype, data) };
  }
  return { tensors, metadata };
}

function floats(name, dtype, data) {
  if (dtype === "F32") return new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
  if (dtype !== "F16") throw new Error(`${name}: expected F32 or F16, found ${dtype}`);
  return Float32Array.from({ length: data.length / 2 }, (_, at) => half(data.readUInt16LE(2 * at)));
}

/** The number that 16 bits stand for. */
export function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The bytes of a safetensors file. */
export function writeSafetensors(tensors) {
  let end = 0;
  const head = {};
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    head[name] = { dtype: "F32", shape, data_offsets: [end, (end += values.byteLength)] };
  }
  const plain = JSON.stringify(head);
  const text = Buffer.from(plain.padEnd(Math.ceil(plain.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([size, text, ...Object.values(tensors).map(({ values }) => Buffer.from(values.buffer))]);
}

/** The encoder in a bundle, in torchvision's names, with its linear map `fc` (`[in, out]`), pooling and patch side. */
export function encoderOfBundle(file) {
  const { tensors, metadata } = readSafetensors(file);
  const { config } = JSON.parse(metadata.magnet).metadata;
  const names = [
    [".downsample.conv.", ".downsample.0."],
    [".downsample.bn.", ".downsample.1."],
    [".gamma", ".weight"],
    [".beta", ".bias"],
  ];
  const own = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    const match = /^model\.patch_encoder\.(?:resnet\.)?(.*)$/.exec(name);
    if (match) own[names.reduce((text, [ours, theirs]) => text.replace(ours, theirs), match[1])] = tensor;
  }
  return { tensors: own, pooling: config.patch_encoder.pooling, side: config.levels.bin.patch_px };
}

/** A ResNet-50 with weights that keep its maps near one; what they are makes no difference to the time. */
export function drawnResNet50() {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const tensors = {};
  const convolution = (name, norm, outputs, inputs, kernel, gain) => {
    const bound = Math.sqrt(6 / (inputs * kernel * kernel));
    const values = new Float32Array(outputs * inputs * kernel * kernel);
    for (let at = 0; at < values.length; at += 1) values[at] = bound * (2 * uniform() - 1);
    tensors[`${name}.weight`] = { shape: [outputs, inputs, kernel, kernel], values };
    const each = (make) => ({ shape: [outputs], values: Float32Array.from({ length: outputs }, make) });
    tensors[`${norm}.weight`] = each(() => gain * (0.5 + uniform()));
    tensors[`${norm}.bias`] = each(() => 0.2 * (uniform() - 0.5));
    tensors[`${norm}.running_mean`] = each(() => 0.2 * (uniform() - 0.5));
    tensors[`${norm}.running_var`] = each(() => 0.5 + uniform());
  };
  convolution("conv1", "bn1", 64, 3, 7, 1);
  let channels = 64;
  for (const [stage, blocks] of [3, 4, 6, 3].entries()) {
    const inner = 64 << stage;
    for (let block = 0; block < blocks; block += 1) {
      const at = `layer${stage + 1}.${block}`;
      convolution(`${at}.conv1`, `${at}.bn1`, inner, channels, 1, 1);
      convolution(`${at}.conv2`, `${at}.bn2`, inner, inner, 3, 1);
      convolution(`${at}.conv3`, `${at}.bn3`, 4 * inner, inner, 1, 0.3);
      if (block === 0) convolution(`${at}.downsample.0`, `${at}.downsample.1`, 4 * inner, channels, 1, 1);
      channels = 4 * inner;
    }
  }
  return { tensors, pooling: "mean", side: 112 };
}
