// One measurement in a frame of its own: nothing is left of an earlier one, and its memory and threads end with it.
import {openClassifier, startLiteRt} from './classifier.js';
import {timesOf} from './timing.js';

const WASM = 'node_modules/@litertjs/core/wasm/';
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
 * timing: {runs, seconds, most, batch_steps}, null to time nothing but opening and the first run. stepMs, again: as
 * timesOf takes them.
 */
async function timeFile(file, {accelerator, threads, timing, stepMs, again}) {
  const wasHidden = watchHidden();
  const [classifier] = await openAll([file], {accelerator, threads});
  if (classifier.accelerator !== accelerator) {
    throw new Error('the graph does not run on WebGPU, not even in part');
  }
  await classifier.setPixels(noise(classifier.inputPx ** 2 * 3));
  const start = performance.now();
  await classifier.run();
  const firstRunMs = performance.now() - start;
  const {times, steps} =
      timing ? await timesOf(() => classifier.run(), timing, stepMs, again) : {times: [], steps: 1};
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

function noise(count) {
  let state = NOISE_SEED;
  return Uint8Array.from({length: count}, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

/** Returns a function that tells whether the page was hidden at any time since. */
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
