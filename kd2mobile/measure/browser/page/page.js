// The page of `kd2mobile benchmark --device browser`: times the files, classifies the test images, sends both back,
// then lets a person try an image.
import {byId, element, round} from './elements.js';
import {prepareToTry} from './try.js';
import {supportsFeature} from '@litertjs/core';

const BEAT_EVERY_MS = 2000;
const TRIES = 15;
const FEATURES = ['relaxedSimd', 'threads', 'jspi'];

let visit = 0;
let currentFile = null;

main().catch(async (fault) => {
  const line = String(fault?.message ?? fault).slice(0, 400);
  byId('fault').hidden = false;
  byId('fault').textContent = line;
  byId('doing').textContent = 'Stopped early';
  byId('status').textContent = 'See the terminal for the next step.';
  console.warn(fault);
  await fetch(`fault?visit=${visit}`, {method: 'POST', body: JSON.stringify({line, file: currentFile})}).catch(() => {});
});

async function main() {
  const hello = await describeBrowser();
  showFacts(hello);
  const job = await start(hello);
  visit = job.visit;
  keepInTouch();
  const files = [];
  for (const file of job.files) {
    files.push({...file, bytes: new Uint8Array(await (await get(file.url)).arrayBuffer())});
  }
  byId('what').textContent = `${files.length === 1 ? 'One file is' : `${files.length} files are`} measured in this browser.`;
  const wake = await navigator.wakeLock?.request('screen').catch(() => null);
  const passes = await timeAll(files, job, hello);
  await evaluateAll(files, job, passes);
  await wake?.release();
  await prepareToTry(files).catch(console.warn);  // what was measured stays
  await post('done');
  show('Done', 'The terminal has the results. This page keeps working until you close or reload it.', 1, 1);
}

/** This browser and its device: the fields of messages.Hello. */
async function describeBrowser() {
  const features = [];
  for (const feature of FEATURES) {
    if (await supportsFeature(feature).catch(() => false)) {
      features.push(feature);
    }
  }
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const {vendor, architecture, description} = adapter?.info ?? {};
  const details = await navigator.userAgentData?.getHighEntropyValues(['model', 'platformVersion']).catch(() => null);
  return {
    user_agent: navigator.userAgent.slice(0, 400),
    model: joined(', ', details?.model || screenOfPhone(), details?.platformVersion && `${details.platform} ${details.platformVersion}`),
    cores: navigator.hardwareConcurrency || null,
    isolated: Boolean(globalThis.crossOriginIsolated),
    clock_step_ms: clockStep(),
    webgpu: adapter ? joined(' ', vendor, architecture, description) ?? 'an adapter' : null,
    features,
  };
}

/** The parts that are known, with `between` between them; null if none is. */
function joined(between, ...parts) {
  return parts.filter(Boolean).join(between).slice(0, 400) || null;
}

/** The screen of a phone whose browser does not report its model; null where there is a mouse. */
function screenOfPhone() {
  const [short, long] = [screen.width, screen.height].sort((a, b) => a - b);
  return matchMedia('(pointer: coarse)').matches ? `screen ${short} x ${long} at ${round(devicePixelRatio)}` : null;
}

/** The smallest step of performance.now() among fifty, or what a fifth of a second shows. */
function clockStep() {
  let smallest = Infinity, steps = 0;
  const start = performance.now();
  for (let last = start; steps < 50 && (last - start < 200 || steps === 0);) {
    const now = performance.now();
    if (now > last) {
      smallest = Math.min(smallest, now - last);
      steps++;
    }
    last = now;
  }
  return Number(smallest.toFixed(6));
}

function showFacts(hello) {
  const facts = [`clock: steps of ${hello.clock_step_ms} ms`];
  if (hello.isolated) {
    facts.push(`cross-origin isolated: threads, ${hello.cores ?? 'an unknown number of'} cores`);
  } else if (!globalThis.isSecureContext) {
    facts.push('a plain http address: no threads, no WebGPU, no camera, a coarse clock; the terminal takes --tls');
  } else {
    facts.push('not cross-origin isolated: no threads, a coarse clock');
  }
  facts.push(hello.webgpu ? `WebGPU: ${hello.webgpu}` : 'no WebGPU');
  byId('facts').replaceChildren(...facts.map((fact) => element('li', fact)));
}

/** Fetches the job; tries again while another page works on it or has just closed. */
async function start(hello) {
  for (let left = TRIES; ; left--) {
    const answer = await request('hello', {method: 'POST', body: JSON.stringify(hello)});
    if (answer.status !== 409 || !left) {
      return (await checked(answer)).json();
    }
    byId('status').textContent = await answer.text();
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function keepInTouch() {
  const worker = new Worker('heartbeat.js');
  worker.postMessage({url: new URL(`beat?visit=${visit}`, location).href, everyMs: BEAT_EVERY_MS});
  addEventListener('pagehide', () => navigator.sendBeacon(`bye?visit=${visit}`));
  addEventListener('pageshow', ({persisted}) => persisted && location.reload());  // back again: a visit of its own
}

/** Times every file in every setting; resolves to the accelerators that each file ran on. */
async function timeAll(files, {threads, timing}, hello) {
  const ways = threads.map((count) => ({accelerator: 'wasm', threads: count}));
  const plans = files.map(({webgpu}) => webgpu && hello.webgpu ? [...ways, {accelerator: 'webgpu', threads: 1}] : ways);
  const total = plans.flat().length, passes = files.map(() => ['wasm']);
  let done = 0;
  byId('measured').hidden = false;
  for (const [index, file] of files.entries()) {
    currentFile = index;
    for (const way of plans[index]) {
      show('Timing', `${file.name}, ${settingText(way)}`, done, total);
      const timed = await timeOne(file, way, timing, hello);
      await post('timed', {file: index}, JSON.stringify(timed));
      showTimed(file.name, timed);
      if (way.accelerator === 'webgpu' && !timed.fault) {
        passes[index].push('webgpu');
      }
      done++;
    }
  }
  currentFile = null;
  return passes;
}

/** The fields of messages.Timed. What this browser lacks is reported as the setting's fault; any other fault ends the work. */
async function timeOne(file, way, timing, {isolated, cores, clock_step_ms: stepMs, features}) {
  const cannot = (fault) => ({...way, fault: fault.slice(0, 400)});
  if (way.threads > 1 && !isolated) {
    return cannot('the page is not cross-origin isolated, so that the browser gives it no threads');
  }
  if (way.threads > 1 && !features.includes('relaxedSimd')) {
    return cannot('LiteRT.js has threads only with relaxed SIMD, which this browser lacks');
  }
  if (way.threads > (cores ?? way.threads)) {
    return cannot(`the browser says that it has ${cores} cores`);
  }
  const again = (why) => post('again', {file: currentFile}, JSON.stringify({...way, why}));
  const tooShort = async () => {
    byId('status').textContent = `${file.name} is timed again: its batches were too short for the clock.`;
    await again('too short');
  };
  for (;;) {
    const frame = await openFrame();
    try {
      const how = {...way, timing, stepMs, again: tooShort};
      const {hidden, ...timed} = await frame.contentWindow.bench.timeFile(file, how);
      if (!hidden) {
        return timed;
      }
      byId('status').textContent = `${file.name} is timed again: the page was hidden. Keep it in front.`;
      await again('hidden');
      await untilVisible();
    } catch (fault) {
      if (way.accelerator === 'wasm') {
        throw fault;
      }
      return cannot(String(fault?.message ?? fault));
    } finally {
      frame.remove();
    }
  }
}

/** Waits until the page is visible: a browser slows a hidden page down. */
async function untilVisible() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, {once: true}));
  }
}

/**
 * Classifies every chunk of pixels with all files of that input form, in their first setting, and sends the outputs.
 * LiteRT.js has workers for the threads of one open file: with threads, one file after another.
 */
async function evaluateAll(files, {input_forms: inputForms, threads: [threads]}, passes) {
  const groups = [];
  for (const [inputForm, {px, chunks}] of inputForms.entries()) {
    for (const way of [{accelerator: 'wasm', threads}, {accelerator: 'webgpu', threads: 1}]) {
      const indices = [...files.keys()].filter(
          (i) => files[i].input_form === inputForm && passes[i].includes(way.accelerator));
      const together = way.threads > 1 ? indices.map((index) => [index]) : [indices];
      groups.push(...together.filter((group) => group.length).map((group) => ({group, way, inputForm, px, chunks})));
    }
  }
  const total = groups.reduce((sum, {chunks}) => sum + chunks, 0);
  let done = 0;
  for (const {group, way, inputForm, px, chunks} of groups) {
    const frame = await openFrame();
    const opened = await frame.contentWindow.bench.openAll(group.map((i) => files[i]), way);
    for (let chunk = 0; chunk < chunks; chunk++) {
      show('Classifying the test images', `${settingText(way)}, part ${chunk + 1} of ${chunks}`, done++, total);
      const pixels = new Uint8Array(await (await get(`pixels/${inputForm}/${chunk}`)).arrayBuffer());
      for (const [i, classifier] of opened.entries()) {
        currentFile = group[i];
        const answers = await answersTo(pixels, classifier, px);
        await post('outputs', {file: group[i], accelerator: way.accelerator, chunk}, answers);
      }
    }
    frame.remove();
  }
  currentFile = null;
}

/** Float32Array [images * classes]. */
async function answersTo(pixels, classifier, px) {
  const size = px * px * 3, count = pixels.length / size;
  const answers = new Float32Array(count * classifier.classes);
  for (let i = 0; i < count; i++) {
    answers.set(await classifier.outputs(pixels.subarray(i * size, (i + 1) * size)), i * classifier.classes);
  }
  return answers;
}

function openFrame() {
  return new Promise((resolve) => {
    const frame = element('iframe');
    frame.hidden = true;
    frame.addEventListener('load', () => resolve(frame), {once: true});
    frame.src = 'bench.html';
    document.body.append(frame);
  });
}

// Words on the page.

function show(doing, status, done, total) {
  byId('doing').textContent = doing;
  byId('status').textContent = status;
  byId('bar').value = done;
  byId('bar').max = total;
}

function showTimed(name, timed) {
  const middle = (part) => percentile(timed.times_ms, part);
  const cells = timed.fault ? ['–', '–', '–', '–'] :
                              [middle(0.5), middle(0.9), timed.first_run_ms, timed.init_ms].map(round);
  const row = element('tr');
  row.append(...[name, ...cells].map((text) => element('td', text)));
  row.firstChild.append(element('span', timed.fault ? `${settingText(timed)}: ${timed.fault}` : settingText(timed)));
  byId('rows').append(row);
  if (timed.steps > 1) {
    byId('batches').hidden = false;
    byId('batches').textContent = 'Short runs are timed in batches because the clock is coarse: their percentiles are of ' +
        'batch means.';
  }
}

function percentile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.round(part * (sorted.length - 1))] : NaN;
}

const settingText = ({accelerator, threads}) =>
    accelerator === 'webgpu' ? 'WebGPU' : `WASM, ${threads} thread${threads === 1 ? '' : 's'}`;

// Requests to the server that the command runs.

function request(path, options) {
  return fetch(path, options).catch(() => {
    throw new Error('the terminal no longer responds');
  });
}

/** The answer, if its status is a success; else an error with its text. */
async function checked(answer) {
  if (!answer.ok) {
    throw new Error((await answer.text()).trim() || `the terminal answered with status ${answer.status}`);
  }
  return answer;
}

async function get(path) {
  return checked(await request(path));
}

async function post(path, fields = {}, body = '') {
  return checked(await request(`${path}?${new URLSearchParams({visit, ...fields})}`, {method: 'POST', body}));
}
