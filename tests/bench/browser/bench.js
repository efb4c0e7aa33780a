// Our engine beside onnxruntime-web, in one browser on one machine: prints tables, and all of it as JSON where a file
// is named. Started by `run`.
//
//   node bench.js [--json FILE] [--only times|start|page|size] [--backend NAME] [--encoder NAME] [--repetitions N]
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { start } from "../../browser/browser.js";
import { serve } from "../../browser/server.js";
import { Viewer } from "../../browser/viewer.js";
import { peakMemory } from "./memory.js";
import { onnxOf } from "./resnet.js";
import { drawnResNet50, encoderOfBundle, writeSafetensors } from "./weights.js";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../../..");
const DIST = process.env.BENCH_DIST ?? join(here, "dist");
const PAGE = process.env.MAGNET_DIST ?? join(root, "dist");
const ORT = join(here, "node_modules/onnxruntime-web/dist");
const ORT_VERSION = JSON.parse(readFileSync(join(ORT, "../package.json"), "utf8")).version;

/** Each is timed so often (a software adapter is slow), and for at least so long each time. */
const REPETITIONS = { wasm: 5, "wasm, isolated page": 5, webgpu: 3 };
const SAMPLE_MS = 300;
/** Fresh browsers for the time and memory of a start. */
const STARTS = 3;
/** Largest difference of two features, beside the largest feature. */
const TOLERANCE = 1e-3;
/** What makes workers share memory, which threads need. */
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

const OURS = { script: "ours.js", files: ["magnet-engine.js", "magnet-engine_bg.wasm"] };
const peer = (module, name, provider, threads = 1) => ({
  script: "peer.js",
  options: { module, provider, threads },
  files: [module, `${name}.mjs`, `${name}.wasm`].map((file) => `ort/${file}`),
});
const ORT_WASM = "ort-wasm-simd-threaded";
/** The ways to compute on each backend, ours first. */
const BACKENDS = {
  wasm: {
    "magnet, WebAssembly": { ...OURS, options: { gpu: false } },
    "onnxruntime-web, wasm": peer("ort.wasm.min.mjs", ORT_WASM, "wasm"),
  },
  "wasm, isolated page": {
    "magnet, WebAssembly": { ...OURS, options: { gpu: false } },
    [`onnxruntime-web, wasm, ${cpus().length} threads`]: peer("ort.wasm.min.mjs", ORT_WASM, "wasm", cpus().length),
  },
  webgpu: {
    "magnet, WebGPU": { ...OURS, options: { gpu: true } },
    "onnxruntime-web, webgpu": peer("ort.webgpu.min.mjs", `${ORT_WASM}.asyncify`, "webgpu"),
    "onnxruntime-web, webgpu of its default module": peer("ort.min.mjs", `${ORT_WASM}.jsep`, "webgpu"),
  },
};
const isGpu = (backend) => backend === "webgpu";
const isIsolated = (backend) => backend.endsWith("isolated page");

/** The encoders, and how many patches a run reads at once on this kind of device: what takes it about a step's time. */
const bundle = (file) => ({ weights: readFileSync(join(root, "web/models", file)), frozen: false });
const ENCODERS = {
  "ResNet-50, 112 px": { read: () => drawn(), count: { wasm: 1, webgpu: 1 } },
  "breast (page), 64 px": { read: () => bundle("breast.safetensors"), count: { wasm: 16, webgpu: 32 } },
  "synthetic (page), 32 px": { read: () => bundle("synthetic.safetensors"), count: { wasm: 128, webgpu: 64 } },
};

function drawn() {
  const encoder = drawnResNet50();
  return { weights: writeSafetensors(encoder.tensors), frozen: true, encoder };
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const digits = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const spread = (values, unit = "") =>
  `${digits(median(values))}${unit} (${digits(Math.min(...values))} to ${digits(Math.max(...values))})`;

/** Writes what the workers fetch, and returns what each way of each encoder opens. */
function prepare() {
  mkdirSync(join(DIST, "encoders"), { recursive: true });
  rmSync(join(DIST, "ort"), { recursive: true, force: true });
  symlinkSync(ORT, join(DIST, "ort"));
  return Object.entries(ENCODERS).map(([name, { read, count }], index) => {
    const { weights, frozen, encoder = encoderOfBundle(weights) } = read();
    const file = (ending, bytes) => {
      const path = `encoders/${index}${ending}`;
      writeFileSync(join(DIST, path), bytes);
      return path;
    };
    const weightFile = file(".safetensors", weights);
    const options = (backend) => {
      const patches = isGpu(backend) ? count.webgpu : count.wasm;
      const onnx = `encoders/${index}-${patches}.onnx`;
      return { weights: weightFile, frozen, onnx, side: encoder.side, count: patches };
    };
    for (const patches of new Set(Object.values(count))) {
      const onnx = onnxOf({ ...encoder, name }, patches);
      file(`-${patches}.onnx`, onnx.file);
    }
    return { name, options };
  });
}

/** Opens the bench's page in a browser of its own, calls `body`, closes both. */
async function withBrowser(backend, servers, body) {
  const browser = await start({ webgpu: isGpu(backend) });
  try {
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.error(`page: ${error.message}`));
    await page.goto((isIsolated(backend) ? servers.isolated : servers.plain).url());
    if ((await page.evaluate(() => crossOriginIsolated)) !== isIsolated(backend)) throw new Error("the page's isolation is not as asked for");
    return await body({
      open: (name, script, options) => page.evaluate((all) => bench.open(...all), [name, script, options]),
      time: (name, calls) => page.evaluate((all) => bench.time(...all), [name, calls]),
      features: (name) => page.evaluate((one) => bench.features(one), name),
      age: () => page.evaluate(() => bench.age()),
    });
  } finally {
    await browser.close();
  }
}

/** Times one encoder in every way of a backend, the ways in turn. */
async function timesOf(backend, { name, options }, servers) {
  const ways = Object.entries(BACKENDS[backend]);
  return withBrowser(backend, servers, async (page) => {
    const features = [];
    const calls = [];
    for (const [way, { script, options: own }] of ways) {
      await page.open(way, script, { ...own, ...options(backend) });
      features.push(await page.features(way));
      // The second call is warm.
      const ms = await page.time(way, 1);
      console.error(`${name}, ${way}: ${digits(ms)} ms a call`);
      calls.push(Math.max(1, Math.round(SAMPLE_MS / ms)));
    }
    const scale = Math.max(...features[0].map(Math.abs));
    const differences = features.map((each) => {
      if (each.length !== features[0].length) throw new Error(`${name}: ${features[0].length} and ${each.length} features`);
      return Math.max(...each.map((value, at) => Math.abs(value - features[0][at]))) / scale;
    });
    if (!(Math.max(...differences) <= TOLERANCE)) throw new Error(`${name}: features differ by ${differences}`);
    const times = ways.map(() => []);
    const repetitions = Number(option("--repetitions") ?? REPETITIONS[backend]);
    for (let repetition = 0; repetition < repetitions; repetition += 1) {
      for (let turn = 0; turn < ways.length; turn += 1) {
        const at = (turn + repetition) % ways.length;
        times[at].push(await page.time(ways[at][0], calls[at]));
      }
    }
    const { count } = options(backend);
    return ways.map(([way], at) => ({
      encoder: name,
      backend,
      way,
      patches: count,
      msPerPatch: times[at].map((ms) => ms / count),
      difference: differences[at],
      ratio: median(times[at]) / median(times[0]),
      ratios: times[at].map((ms, repetition) => ms / times[0][repetition]),
    }));
  });
}

async function times(encoders, servers) {
  const rows = [];
  console.log("\n| encoder | way | patches at once | ms a patch: median (range) | times ours | range of the ratio | features differ by |");
  console.log("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
  for (const backend of Object.keys(BACKENDS).filter(wantedBackend)) {
    for (const encoder of encoders) {
      for (const row of await timesOf(backend, encoder, servers)) {
        rows.push(row);
        const own = row.way === Object.keys(BACKENDS[backend])[0];
        const ratio = own ? "1.00 | " : `${row.ratio.toFixed(2)} | ${Math.min(...row.ratios).toFixed(2)} to ${Math.max(...row.ratios).toFixed(2)}`;
        const where = isIsolated(backend) ? " (isolated page)" : "";
        console.log(
          `| ${row.encoder} | ${row.way}${where} | ${row.patches} | ${spread(row.msPerPatch)} | ${ratio} | ${own ? "" : row.difference.toExponential(1)} |`,
        );
      }
    }
  }
  return rows;
}

/** A fresh browser for each: the page, the runtime, the weights, and the first features. */
async function starts(encoders, servers) {
  const rows = [];
  const blank = { wasm: [], webgpu: [] };
  console.log("\n| encoder | way | s from opening the page to the first features: median (range) | peak memory, MB: median (range) |");
  console.log("| --- | --- | ---: | ---: |");
  for (const backend of ["wasm", "webgpu"].filter(wantedBackend)) {
    for (let repetition = 0; repetition < STARTS; repetition += 1) {
      blank[backend].push(await withBrowser(backend, servers, () => peakMemory()));
    }
    console.log(`| none | the page alone, ${backend} | | ${spread(blank[backend].map((bytes) => bytes / 1e6))} |`);
    for (const { name, options } of encoders) {
      const ways = Object.entries(BACKENDS[backend]);
      const found = ways.map(() => ({ seconds: [], bytes: [] }));
      for (let repetition = 0; repetition < STARTS; repetition += 1) {
        for (const [at, [way, { script, options: own }]] of ways.entries()) {
          await withBrowser(backend, servers, async (page) => {
            await page.open(way, script, { ...own, ...options(backend) });
            await page.time(way, 1);
            found[at].seconds.push((await page.age()) / 1000);
            found[at].bytes.push(peakMemory());
          });
        }
      }
      for (const [at, [way]] of ways.entries()) {
        rows.push({ encoder: name, backend, way, ...found[at] });
        console.log(`| ${name} | ${way} | ${spread(found[at].seconds)} | ${spread(found[at].bytes.map((bytes) => bytes / 1e6))} |`);
      }
    }
  }
  return { blank, rows };
}

/** Our page as a visitor meets it: opened in a fresh browser, then the sample's whole map. */
async function pageTimes() {
  const server = await serve(PAGE);
  const marks = { "page ready for an image": [], "and the sample's whole map": [] };
  const memory = [];
  try {
    for (let repetition = 0; repetition < STARTS; repetition += 1) {
      const browser = await start({ webgpu: false });
      try {
        const page = await (await browser.newContext({ serviceWorkers: "block" })).newPage();
        const began = performance.now();
        await page.goto(server.url());
        const viewer = new Viewer(page);
        await viewer.ready();
        marks["page ready for an image"].push((performance.now() - began) / 1000);
        await viewer.button("Try the sample").click();
        await viewer.finished(300_000);
        marks["and the sample's whole map"].push((performance.now() - began) / 1000);
        memory.push(peakMemory());
      } finally {
        await browser.close();
      }
    }
  } finally {
    await server.close();
  }
  console.log("\n| the page, on the CPU | s since it was opened: median (range) |\n| --- | ---: |");
  for (const [mark, seconds] of Object.entries(marks)) console.log(`| ${mark} | ${spread(seconds)} |`);
  console.log(`\nPeak memory of the page with the sample's map: ${spread(memory.map((bytes) => bytes / 1e6), " MB")}`);
  return { seconds: marks, bytes: memory };
}

/** What a visitor loads of each runtime. */
function sizes() {
  const { "magnet, WebAssembly": ours, ...wasm } = BACKENDS.wasm;
  const { "magnet, WebGPU": _, ...webgpu } = BACKENDS.webgpu;
  const packed = (path) => execFileSync("gzip", ["-9", "-c", path], { maxBuffer: 1 << 26 }).length;
  const rows = Object.entries({ "magnet, both backends": ours, ...wasm, ...webgpu }).map(([way, { script, files }]) => {
    // Of our engine what is shipped, which has no entry point for the bench.
    const paths = files.map((file) => join(script === "ours.js" ? PAGE : DIST, file));
    const sum = (each) => paths.reduce((total, path) => total + each(path), 0);
    return { way, bytes: sum((path) => statSync(path).size), gzip: sum(packed) };
  });
  console.log("\n| what is loaded, without weights | MB | MB with gzip | times ours |\n| --- | ---: | ---: | ---: |");
  for (const { way, bytes, gzip } of rows) console.log(`| ${way} | ${(bytes / 1e6).toFixed(1)} | ${(gzip / 1e6).toFixed(2)} | ${(gzip / rows[0].gzip).toFixed(2)} |`);
  return rows;
}

const words = process.argv.slice(2);
const option = (name) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined);
const wanted = (part) => [undefined, part].includes(option("--only"));
const wantedBackend = (name) => [undefined, name].includes(option("--backend"));

const began = performance.now();
const encoders = prepare().filter(({ name }) => name.startsWith(option("--encoder") ?? ""));
const servers = { plain: await serve(DIST), isolated: await serve(DIST, {}, ISOLATION) };
console.log(`${cpus()[0].model}, ${cpus().length} processors, load ${loadavg()[0].toFixed(1)}; onnxruntime-web ${ORT_VERSION}; WebGPU on SwiftShader`);
const results = { ort: ORT_VERSION, processors: cpus().length, load: loadavg() };
if (wanted("size")) results.sizes = sizes();
if (wanted("times")) results.times = await times(encoders, servers);
if (wanted("start")) results.starts = await starts(encoders, servers);
if (wanted("page")) results.page = await pageTimes();
await Promise.all(Object.values(servers).map((server) => server.close()));
if (option("--json")) writeFileSync(resolve(root, option("--json")), JSON.stringify(results, null, 1));
console.log(`\n${((performance.now() - began) / 1000).toFixed(0)} s in all; load at the end ${loadavg()[0].toFixed(1)}`);
