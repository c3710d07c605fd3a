// One measurement in a frame of its own: nothing is left of an earlier one, and its memory and threads end with it.
import {openClassifier, startLiteRt} from './classifier.js';

const WASM = 'node_modules/@litertjs/core/wasm/';
const WARMUP_RUNS = 10;
const WARMUP_MS = 250;
const PAUSE_EVERY_MS = 250;  // between timed values, so that the page is not taken for hung
const PROBES = 10;
const NOISE_SEED = 1;

/** What the parent page calls. */
window.bench = {timeFile, openAll};

/** Loads LiteRT.js and opens the files: [{bytes, ...}] to classifiers. */
async function openAll(files, {accelerator, threads}) {
  await startLiteRt(WASM, {threads: threads > 1, jspi: accelerator === 'webgpu'});
  const opened = [];
  for (const {bytes, mean, std, labels, resize} of files) {
    opened.push(await openClassifier(bytes, {accelerator, threads, labels, resize, ...(mean && {mean, std})}));
  }
  return opened;
}

/**
 * Opens and times one file; the fields of messages.Timed, and whether the page was hidden meanwhile.
 * timing: {runs, seconds, most, batch_steps}, null to time nothing but opening and the first run. stepMs: of the clock.
 */
async function timeFile(file, {accelerator, threads, timing, stepMs}) {
  const wasHidden = watchHidden();
  const [classifier] = await openAll([file], {accelerator, threads});
  if (classifier.accelerator !== accelerator) {
    throw new Error('the graph does not run on WebGPU, not even in part');
  }
  await classifier.setPixels(noise(classifier.inputPx ** 2 * 3));
  const start = performance.now();
  await classifier.run();
  const firstRunMs = performance.now() - start;
  const {times, steps} = timing ? await timesOf(classifier, timing, stepMs) : {times: [], steps: 1};
  return {
    accelerator,
    threads,
    init_ms: classifier.initMs,
    first_run_ms: firstRunMs,
    times_ms: times,
    steps,
    wholly: classifier.wholly,
    hidden: wasHidden(),
  };
}

/** Single stream after a warm-up; where the clock is coarse, each time is the mean over a batch of runs. */
async function timesOf(classifier, {runs, seconds, most, batch_steps: batchSteps}, stepMs) {
  const batchMs = async (steps) => {
    const start = performance.now();
    for (let i = 0; i < steps; i++) {
      await classifier.run();
    }
    return performance.now() - start;
  };
  const warmEnd = performance.now() + Math.min(WARMUP_MS, seconds * 1000);
  for (let warmed = 0; warmed < WARMUP_RUNS || performance.now() < warmEnd; warmed++) {
    await classifier.run();
  }
  const span = batchSteps * stepMs;
  for (let steps = await stepsFor(batchMs, span, stepMs); ;) {
    const times = [];
    const end = performance.now() + seconds * 1000;
    let paused = performance.now();
    while (times.length < runs || (performance.now() < end && times.length < most)) {
      if (performance.now() - paused > PAUSE_EVERY_MS) {
        await new Promise((resolve) => setTimeout(resolve));
        paused = performance.now();
      }
      times.push(Number((await batchMs(steps) / steps).toFixed(6)));
    }
    const median = [...times].sort((a, b) => a - b)[times.length >> 1];
    if (median * steps >= span) {
      return {times, steps};
    }
    steps = Math.ceil(steps * Math.max(1.25, 1.1 * span / Math.max(median * steps, stepMs)));
  }
}

/** How many runs take at least `spanMs` even at their fastest. */
async function stepsFor(batchMs, spanMs, stepMs) {
  for (let steps = 1; ;) {
    let fastest = Infinity;
    for (let i = 0; i < PROBES; i++) {
      fastest = Math.min(fastest, await batchMs(steps));
    }
    if (fastest >= spanMs) {
      return steps;
    }
    steps = Math.ceil(steps * Math.max(1.25, spanMs / Math.max(fastest, stepMs)));
  }
}

function noise(count) {
  let state = NOISE_SEED;
  return Uint8Array.from({length: count}, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

/** Returns a function that says whether the page was out of sight at any time since. */
function watchHidden() {
  let hidden = document.hidden;
  const note = () => {
    hidden ||= document.hidden;
  };
  document.addEventListener('visibilitychange', note);
  return () => {
    document.removeEventListener('visibilitychange', note);
    return hidden;
  };
}
