// How a file is timed: single stream after a warm-up; where the clock is coarse, in batches of runs.

const WARMUP_RUNS = 10;
const WARMUP_MS = 250;
const PROBES = 10;
const PROBE_MS = 250;
const HEADROOM = 1.5;  // a batch is chosen for this many times what it must span
const FEWEST_TO_DOUBT = 20;
const MOST_TRIES = 4;
const PAUSE_EVERY_MS = 250;  // between timed values, so that the page is not taken for hung

/**
 * {times, steps}: milliseconds per run, each the mean over a batch of `steps` runs; more than half of the batches span at
 * least `batch_steps` steps of the clock, and so does each percentile from the median on.
 * run: one inference. timing: messages.Timing. stepMs: of the clock. again: called, and awaited, before timing starts
 * over because the runs have become too short for their batch. now: the clock.
 */
export async function timesOf(run, timing, stepMs, again, now = () => performance.now()) {
  const {runs, seconds, most, batch_steps: batchSteps} = timing;
  const batchMs = async (steps) => {
    const start = now();
    for (let i = 0; i < steps; i++) {
      await run();
    }
    return now() - start;
  };
  const warmEnd = now() + Math.min(WARMUP_MS, seconds * 1000);
  for (let warmed = 0; warmed < WARMUP_RUNS || now() < warmEnd; warmed++) {
    await run();
  }
  const span = batchSteps * stepMs;
  let steps = await stepsFor(batchMs, span, Math.min(PROBE_MS, seconds * 1000), stepMs, now);
  for (let tries = 1; ; tries++) {
    const times = [], end = now() + seconds * 1000;
    let tooShort = 0, paused = now();
    const doubtful = () => times.length >= FEWEST_TO_DOUBT && tooShort * 2 >= times.length;
    while (!doubtful() && (times.length < runs || (now() < end && times.length < most))) {
      if (now() - paused > PAUSE_EVERY_MS) {
        await new Promise((resolve) => setTimeout(resolve));
        paused = now();
      }
      const took = await batchMs(steps);
      tooShort += took < span;
      times.push(Number((took / steps).toPrecision(7)));
    }
    if (tooShort * 2 < times.length) {
      return {times, steps};
    }
    if (tries === MOST_TRIES) {
      throw new Error(`the runs became shorter ${tries} times while they were timed`);
    }
    const short = times.sort((a, b) => a - b)[times.length >> 2];  // in the middle of those that are too short
    steps = Math.ceil(steps * Math.max(2, HEADROOM * span / Math.max(short * steps, stepMs)));
    await again();
  }
}

/** How many runs take `spanMs` even at their fastest: one alone if it does, else as many as take HEADROOM times that. */
async function stepsFor(batchMs, spanMs, probeMs, stepMs, now) {
  for (let steps = 1; ;) {
    const target = steps > 1 ? HEADROOM * spanMs : spanMs, end = now() + probeMs;
    let fastest = Infinity;
    for (let i = 0; fastest >= target && (i < PROBES || now() < end); i++) {
      fastest = Math.min(fastest, await batchMs(steps));
    }
    if (fastest >= target) {
      return steps;
    }
    steps = Math.ceil(steps * Math.max(1.25, HEADROOM * spanMs / Math.max(fastest, stepMs)));
  }
}
