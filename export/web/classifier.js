/**
 * A .tflite image classifier in the browser, on LiteRT.js.
 *
 *   await startLiteRt('node_modules/@litertjs/core/wasm/');
 *   const classifier = await openClassifier(await (await fetch('model.tflite')).arrayBuffer());
 *   const [best] = await classifier.classify(imageElement);   // {label: 'tiger', probability: 0.93}
 *
 * The file has what is needed: sizes, types and quantization are in its graph; a file of kd2mobile's also carries its
 * labels and how an image becomes a square. An image gets there as it did in training, by the same antialiased
 * bilinear filter, and not by a canvas, whose filter is each browser's own.
 */
import {loadAndCompile, loadLiteRt, supportsFeature, Tensor} from '@litertjs/core';

const TYPES = ['float32', 'float16', 'int32', 'uint8', 'int64', 'string', 'bool', 'int16', 'complex64', 'int8'];
const TAKES = ['uint8', 'float32'];
const OWN_NORMAL = {mean: 127.5, std: 127.5};  // of every student of kd2mobile's
const PLAIN_RANGES = [[0, 255], [0, 1], [-1, 1]];
const CROP_FRACTION = 0.875;
const SUM_TOLERANCE = 0.02;

/**
 * Loads LiteRT.js; once per page, before openClassifier.
 * wasmFolder: the address of @litertjs/core's folder `wasm`. threads: the build with threads, which only a cross-origin
 * isolated page can load. jspi: the build that can leave to the processor what WebGPU cannot do.
 */
export async function startLiteRt(wasmFolder, {threads = false, jspi = false} = {}) {
  if (threads && !globalThis.crossOriginIsolated) {
    throw new Error(
        'threads need a cross-origin isolated page: https or localhost, and the headers ' +
        'Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp');
  }
  await loadLiteRt(wasmFolder, {threads, jspi: jspi && await supportsFeature('jspi')});
}

/**
 * Opens a .tflite.
 * bytes: ArrayBuffer or Uint8Array. accelerator: `wasm` or `webgpu`. threads: of the processor, with the build that has
 * them. mean, std: the network gets (pixel - mean) / std, one number or three, by default those in the file's metadata.
 * Without either a float input gets the pixel itself, and so does a quantized one whose range is that of plain pixels;
 * another is refused. labels, resize: instead of those in the file.
 */
export async function openClassifier(
    bytes, {accelerator = 'wasm', threads = 1, mean = null, std = null, labels = null, resize = null} = {}) {
  const data = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  const {input, output, normal} = describeModel(data);
  const description = await readDescription(data);
  const given = (mean ?? std) === null ? null : {mean: mean ?? 0, std: std ?? 1};
  const values = valuesOf(input, given, normal ?? (description.resize && input.scale ? OWN_NORMAL : null));
  const start = performance.now();
  const model = await loadAndCompile(data, {accelerator, cpuOptions: {numThreads: threads}});
  const initMs = performance.now() - start;
  return new Classifier(model, input, output, {
    initMs,
    threads,
    values,
    labels: labels ?? description.labels,
    resize: resize ?? description.resize ?? 'crop',
  });
}

/** What openClassifier returns. inputPx: side of its square input; classes: their number; labels: their names or null. */
export class Classifier {
  constructor(model, input, output, {initMs, threads, values, labels, resize}) {
    Object.assign(this, {model, input, output, initMs, threads, values, resize});
    this.inputPx = input.shape[1];
    this.classes = output.shape.at(-1);
    this.labels = labels && labels.length === this.classes ? labels : null;
    /** The accelerator that it runs on: LiteRT.js may use `wasm` where `webgpu` was requested. */
    this.accelerator = model.options.accelerator;
    /** Whether the whole graph runs there; on `webgpu` some ops may run on the processor. */
    this.wholly = this.accelerator === 'wasm' || model.isFullyAccelerated;
    this.tensor = null;
  }

  /** Makes bytes [px * px * 3], RGB, the next run's input. */
  async setPixels(pixels) {
    const {inputPx: px, values} = this;
    if (pixels.length !== px * px * 3) {
      throw new Error(`pixels must be ${px} x ${px} x 3 numbers, got ${pixels.length}`);
    }
    this.tensor?.delete();
    this.tensor = new Tensor(values(pixels), [1, px, px, 3]);
    if (this.accelerator === 'webgpu') {
      this.tensor = await this.tensor.moveTo('webgpu');
    }
  }

  /** One inference of the pixels that are set; on WebGPU until its answer is back. */
  async run() {
    for (const answer of await this.model.run([this.tensor])) {
      if (this.accelerator === 'webgpu') {
        await answer.data();
      }
      answer.delete();
    }
  }

  /** The outputs for the pixels, dequantized: Float32Array [classes]. */
  async outputs(pixels) {
    await this.setPixels(pixels);
    const [answer] = await this.model.run([this.tensor]);
    const values = await answer.data();
    answer.delete();
    const {dtype, scale, zeroPoint} = this.output;
    return dtype === 'float32' ? values : Float32Array.from(values, (value) => (value - zeroPoint) * scale);
  }

  /**
   * The likeliest classes of an image: [{label, index, probability}], best first.
   * image: whatever a canvas can draw, an ImageBitmap, <img>, <video> or <canvas>. top: how many.
   */
  async classify(image, top = 5) {
    const probabilities = asProbabilities(await this.outputs(pixelsOf(image, this.inputPx, this.resize)));
    const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    return order.slice(0, top).map(
        (index) => ({index, label: this.labels?.[index] ?? String(index), probability: probabilities[index]}));
  }

  delete() {
    this.tensor?.delete();
    this.model.delete();
  }
}

/** An image file, upright, as what `classify` takes. */
export function readImage(blob) {
  return createImageBitmap(blob, {imageOrientation: 'from-image', colorSpaceConversion: 'none'});
}

/** The pixels for the network: Uint8Array [px * px * 3], RGB. resize: `crop`, `stretch` or `pad`. */
export function pixelsOf(image, px, resize) {
  const width = image.videoWidth || image.naturalWidth || image.width;
  const height = image.videoHeight || image.naturalHeight || image.height;
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, width, height);
  pen.drawImage(image, 0, 0, width, height);
  return resample(pen.getImageData(0, 0, width, height).data, width, height, px, resize);
}

/**
 * RGBA [height * width * 4] to RGB [px * px * 3] by the antialiased bilinear filter of Pillow's Image.resize, through
 * the whole image (`stretch`), its centre square of 0.875 times the short side (`crop`) or the square around it, what
 * lies beyond the image being black (`pad`).
 */
export function resample(rgba, width, height, px, resize) {
  const side = resize === 'crop' ? CROP_FRACTION * Math.min(width, height) : Math.max(width, height);
  const reach = (length) => resize === 'stretch' ? 0.5 : side / length / 2;
  const [across, down] = [width, height].map(
      (length) => taps((0.5 - reach(length)) * length, (0.5 + reach(length)) * length, length, px));
  let pixels = {data: rgba, width, height, channels: 4};
  const steps = height > width ? ['down', 'across'] : ['across', 'down'];
  for (const step of steps) {
    pixels = step === 'across' ? resampleAcross(pixels, across) : resampleDown(pixels, down);
  }
  return pixels.data;
}

const PRECISION_BITS = 22;

/**
 * The weighted pixels, [[pixel, weight], ...], of each of `px` output pixels that the span from `start` to `end` of a side
 * of `length` pixels is scaled to. Positions beyond the image count in the sum of the weights and have no pixel.
 */
function taps(start, end, length, px) {
  const [before, after] = [-start, end - length].map((beyond) => beyond > 1e-3 ? Math.ceil(beyond) : 0);
  const whole = before + length + after;
  const from = Math.fround(Math.max(start + before, 0)), to = Math.fround(Math.min(end + before, whole));
  const scale = (to - from) / px, support = Math.max(scale, 1);
  return Array.from({length: px}, (_, index) => {
    const centre = from + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(whole, Math.trunc(centre + support + 0.5));
    const weights = Array.from(
        {length: last - first}, (_, i) => Math.max(0, 1 - Math.abs((first + i - centre + 0.5) / support)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const kept = weights.map(
        (weight, i) => [first + i - before, Math.floor(weight / total * (1 << PRECISION_BITS) + 0.5)]);
    return kept.filter(([at, weight]) => weight && at >= 0 && at < length);
  });
}

function resampleAcross({data, width, height, channels}, windows) {
  const out = new Uint8Array(height * windows.length * 3);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (const window of windows) {
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (const [x, weight] of window) {
          sum += data[(y * width + x) * channels + c] * weight;
        }
        out[at++] = Math.min(255, sum >> PRECISION_BITS);
      }
    }
  }
  return {data: out, width: windows.length, height, channels: 3};
}

function resampleDown({data, width, height, channels}, windows) {
  const out = new Uint8Array(windows.length * width * 3);
  let at = 0;
  for (const window of windows) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (const [y, weight] of window) {
          sum += data[(y * width + x) * channels + c] * weight;
        }
        out[at++] = Math.min(255, sum >> PRECISION_BITS);
      }
    }
  }
  return {data: out, width, height: windows.length, channels: 3};
}

/** The outputs as they are if they are probabilities, else their softmax. */
export function asProbabilities(outputs) {
  const sum = outputs.reduce((total, value) => total + value, 0);
  if (outputs.every((value) => value >= 0 && value <= 1) && Math.abs(sum - 1) <= SUM_TOLERANCE + outputs.length / 512) {
    return outputs;
  }
  const highest = outputs.reduce((a, b) => Math.max(a, b));
  const powers = Float64Array.from(outputs, (value) => Math.exp(value - highest));
  const total = powers.reduce((a, b) => a + b);
  return Float32Array.from(powers, (power) => power / total);
}

/**
 * A function from RGB bytes to the values of the input. given: {mean, std} of the caller, or null; known: of the file.
 * A quantized input takes what stands for (pixel - mean) / std by its own scale, and where that is the pixel itself but for
 * one step of rounding, the pixel. kd2mobile's own reading is measure/litert/eight_bit.py.
 */
export function valuesOf({dtype, scale, zeroPoint}, given, known) {
  const [mean, std] = ['mean', 'std'].map((field) => perChannel((given ?? known ?? {mean: 0, std: 1})[field]));
  if (dtype === 'float32') {
    return (pixels) => Float32Array.from(pixels, (pixel, i) => Math.fround(pixel - mean[i % 3]) / std[i % 3]);
  }
  const itself = (pixels) => new Uint8Array(pixels);
  if (scale === null) {
    return itself;
  }
  const [low, high] = [-zeroPoint * scale, (255 - zeroPoint) * scale];
  const near = ([first, last]) => Math.max(Math.abs(low - first), Math.abs(high - last)) <= (last - first) / 255 * 1.01;
  const plain = PLAIN_RANGES.some(near);
  if (!given && !known && !plain) {
    throw new Error(`must take pixels as 0..255, 0..1 or -1..1, ${low.toPrecision(4)} to ` +
        `${high.toPrecision(4)}: give mean and std, the network gets (pixel - mean) / std`);
  }
  const ends = [0, 255].flatMap((pixel) => mean.map((middle, c) => (pixel - middle) / std[c]));
  const fits = Math.min(...ends) >= low - scale * 1.01 && Math.max(...ends) <= high + scale * 1.01;
  if (!given && plain && !(known && fits)) {
    return itself;
  }
  const taken = (pixel, c) =>
      Math.min(255, Math.max(0, Math.floor((pixel - mean[c]) / std[c] / scale + 0.5) + zeroPoint));
  const table = [0, 1, 2].map((c) => Uint8Array.from({length: 256}, (_, pixel) => taken(pixel, c)));
  if (table.every((channel) => channel.every((value, pixel) => Math.abs(value - pixel) <= 1))) {
    return itself;
  }
  return (pixels) => Uint8Array.from(pixels, (pixel, i) => table[i % 3][pixel]);
}

/**
 * The input and output of a .tflite, from its bytes alone: {input, output, normal}, the first two {dtype, shape, scale,
 * zeroPoint}, the last the {mean, std} in its TensorFlow Lite Metadata, or null.
 * Throws if it is no classifier that LiteRT.js can run.
 */
export function describeModel(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8 || String.fromCharCode(...bytes.subarray(4, 8)) !== 'TFL3') {
    throw new Error('must be a TensorFlow Lite model: its file identifier is not TFL3');
  }
  let graph;
  try {
    graph = readGraph(view);
  } catch (fault) {
    throw new Error(`must be a complete TensorFlow Lite model: ${fault.message}`);
  }
  const {inputs: [input, ...moreInputs], outputs: [output, ...moreOutputs]} = graph;
  if (!input || !output || moreInputs.length || moreOutputs.length) {
    throw new Error(`must take one image and output one vector, got ${graph.inputs.length} inputs and ` +
        `${graph.outputs.length} outputs`);
  }
  const [batch, high, wide, channels] = input.shape;
  if (input.shape.length !== 4 || channels !== 3 || high !== wide || high < 1) {
    throw new Error(`must take one square RGB image [1, px, px, 3], got [${input.shape}]`);
  }
  if (batch !== 1) {
    throw new Error(`LiteRT.js needs a batch that is fixed at 1, got ${batch < 0 ? 'an open one' : batch}`);
  }
  for (const [what, tensor] of [['take', input], ['answer', output]]) {
    if (!TAKES.includes(tensor.dtype)) {
      throw new Error(`LiteRT.js can ${what} uint8 or float32, got ${tensor.dtype}`);
    }
  }
  return {input, output, normal: graph.normal};
}

function readGraph(view) {
  const graph = tables(view, root(view), 2)[0];
  const tensors = tables(view, graph, 0);
  const tensor = (index) => {
    const quantization = child(view, tensors[index], 4);
    const [scale] = quantization === null ? [] : numbers(view, quantization, 2, 4, 'getFloat32');
    const [zeroPoint] = quantization === null ? [] : numbers(view, quantization, 3, 8, 'getBigInt64');
    const fixed = numbers(view, tensors[index], 0, 4, 'getInt32');
    const open = numbers(view, tensors[index], 7, 4, 'getInt32');
    const offset = field(view, tensors[index], 1);
    const kind = offset ? view.getInt8(offset) : 0;
    return {
      dtype: TYPES[kind] ?? `type ${kind}`,
      shape: open.length ? open : fixed,
      scale: scale ?? null,
      zeroPoint: Number(zeroPoint ?? 0),
    };
  };
  return {
    inputs: numbers(view, graph, 1, 4, 'getInt32').map(tensor),
    outputs: numbers(view, graph, 2, 4, 'getInt32').map(tensor),
    normal: readNormal(view),
  };
}

/** The normalization of the first input in TensorFlow Lite Metadata (metadata_schema.fbs), or null. */
function readNormal(view) {
  const model = root(view);
  const entry = tables(view, model, 6).find((one) => text(view, one, 0) === 'TFLITE_METADATA');
  if (entry === undefined) {
    return null;
  }
  const offset = field(view, entry, 1);
  const buffer = tables(view, model, 4)[offset ? view.getUint32(offset, true) : 0];
  const start = child(view, buffer, 0);
  const metadata = new DataView(view.buffer, view.byteOffset + start + 4, view.getUint32(start, true));
  const [graph] = tables(metadata, root(metadata), 3);
  const [image] = graph === undefined ? [] : tables(metadata, graph, 2);
  const units = image === undefined ? [] : tables(metadata, image, 4);
  let normal = null;
  for (const unit of units) {
    const kind = field(metadata, unit, 0), options = child(metadata, unit, 1);
    if (kind && metadata.getUint8(kind) === 1) {
      const [mean, std] = [0, 1].map((index) => numbers(metadata, options, index, 4, 'getFloat32'));
      normal = mean.length && std.length ? {mean, std} : null;
    }
  }
  return normal;
}

// A flatbuffer's table starts with the distance back to its vtable, which holds for each field its distance from the
// table, 0 for one that is not set. A DataView throws where an offset leads out of the file.
const root = (view) => view.getUint32(0, true);
const target = (view, offset) => offset + view.getUint32(offset, true);

function field(view, table, index) {
  const vtable = table - view.getInt32(table, true), entry = 4 + 2 * index;
  const distance = entry < view.getUint16(vtable, true) ? view.getUint16(vtable + entry, true) : 0;
  return distance && table + distance;
}

function child(view, table, index) {
  const offset = field(view, table, index);
  return offset ? target(view, offset) : null;
}

function numbers(view, table, index, size, getter) {
  const vector = child(view, table, index);
  const count = vector === null ? 0 : view.getUint32(vector, true);
  if (count * size > view.byteLength) {
    throw new RangeError(`a vector of ${count} numbers`);
  }
  return Array.from({length: count}, (_, i) => view[getter](vector + 4 + size * i, true));
}

function text(view, table, index) {
  return String.fromCharCode(...numbers(view, table, index, 1, 'getUint8'));
}

function tables(view, table, index) {
  const vector = child(view, table, index);
  return numbers(view, table, index, 4, 'getUint32').map((_, i) => target(view, vector + 4 + 4 * i));
}

/** The description inside a file of kd2mobile's: {labels, resize}, each null in any other file. */
export async function readDescription(bytes) {
  const text = await zipMember(bytes, 'kd2mobile.json');
  if (text !== null) {
    const {classes, resize} = JSON.parse(text);
    return {labels: classes, resize};
  }
  const labels = await zipMember(bytes, 'labels.txt');
  return {labels: labels === null ? null : labelLines(labels), resize: null};
}

const NUMBER = '(?<number>[0-9]{1,9})';
const FORMS = [`${NUMBER}[ \\t]*:[ \\t]*(?<name>\\S.*)`, `${NUMBER}[ \\t]*,[ \\t]*(?<name>\\S.*)`,
  `${NUMBER}[ \\t]+(?<name>[^\\t]+)`, `(?<name>.+?)[ ]*\\t[ \\t]*${NUMBER}`].map((form) => new RegExp(`^${form}$`, 's'));

/**
 * The names in a label file, in the order of the outputs: one per line, or numbered on all lines in one form (`0 name`,
 * `0: name`, `0,name`, `name<TAB>0`), from 0 and each once. kd2mobile's own reading is inspection/labels.py.
 */
export function labelLines(text) {
  const all = text.trimEnd().split('\n').map((line) => line.trim());
  const lines = all.filter((line) => line);
  let wrong = false;
  for (const form of FORMS) {
    const matches = lines.map((line) => line.match(form)?.groups);
    const numbers = matches.map((one) => Number(one?.number));
    if (!numbers.includes(0) || matches.includes(undefined) ||
        (lines.length > 1 && new Set(matches.map((one) => one.name)).size === 1)) {
      continue;
    }
    const names = Array(lines.length).fill(null);
    numbers.forEach((number, i) => number < names.length && (names[number] = matches[i].name));
    if (!names.includes(null)) {
      return names;
    }
    wrong = true;
  }
  if (wrong) {
    throw new Error(`labels.txt must number its ${lines.length} labels from 0 to ${lines.length - 1}, each once`);
  }
  return all;
}

/** The text of one file in the ZIP behind the model, null if there is none. */
async function zipMember(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  const earliest = Math.max(0, end - 0xffff);
  while (end >= earliest && view.getUint32(end, true) !== 0x06054b50) {
    end--;
  }
  if (end < earliest) {
    return null;
  }
  const listSize = view.getUint32(end + 12, true), listStart = view.getUint32(end + 16, true);
  const shift = end - listSize - listStart;  // a ZIP may count from its own start or from the model's
  let entry = listStart + shift;
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const method = view.getUint16(entry + 10, true), size = view.getUint32(entry + 20, true);
    const [nameSize, extraSize, noteSize] = [28, 30, 32].map((at) => view.getUint16(entry + at, true));
    if (new TextDecoder().decode(bytes.subarray(entry + 46, entry + 46 + nameSize)) === name) {
      const start = view.getUint32(entry + 42, true) + shift;
      const from = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
      const stored = new Blob([bytes.subarray(from, from + size)]);
      const plain = method ? stored.stream().pipeThrough(new DecompressionStream('deflate-raw')) : stored;
      return new Response(plain).text();
    }
    entry += 46 + nameSize + extraSize + noteSize;
  }
  return null;
}

function perChannel(value) {
  const values = [].concat(value).map(Math.fround);
  return values.length === 1 ? [...values, ...values, ...values] : values;
}
