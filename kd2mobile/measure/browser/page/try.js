// What a person may do once the measurement is done: try an image, or the camera.
import {openClassifier, readImage, startLiteRt} from './classifier.js';
import {byId, element, round} from './elements.js';

const WASM = 'node_modules/@litertjs/core/wasm/';

let classifier = null;

/** files: messages.Work of each, and its bytes. */
export async function prepareToTry(files) {
  await startLiteRt(WASM);
  const open = async ({bytes, mean, std, labels, resize}) => {
    classifier?.delete();
    classifier = await openClassifier(bytes, {labels, resize, ...(mean && {mean, std})});
  };
  byId('model').replaceChildren(...files.map((file, i) => new Option(file.name, i)));
  byId('model').addEventListener('change', async ({target}) => {
    await open(files[target.value]);
    await tryImage(byId('image'));
  });
  await open(files[0]);
  byId('file').addEventListener('change', ({target}) => target.files[0] && tryFile(target.files[0]));
  const drop = byId('drop');
  for (const [event, over] of [['dragover', true], ['dragleave', false], ['drop', false]]) {
    drop.addEventListener(event, (dragged) => {
      dragged.preventDefault();
      drop.classList.toggle('over', over);
    });
  }
  drop.addEventListener('drop', ({dataTransfer}) => dataTransfer.files[0] && tryFile(dataTransfer.files[0]));
  prepareCamera();
  byId('try').hidden = false;
}

async function tryFile(file) {
  stopCamera();
  try {
    await tryImage(await readImage(file));
  } catch {
    byId('took').textContent = 'This browser cannot read that file as an image.';
    return;
  }
  const image = byId('image');
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  image.hidden = false;
}

async function tryImage(image) {
  if (!(image.width || image.videoWidth)) {
    return;
  }
  const start = performance.now();
  const classes = await classifier.classify(image);
  byId('took').textContent = `${round(performance.now() - start)} ms from image to classes, including scaling.`;
  byId('classes').replaceChildren(...classes.map(({label, probability}) => {
    const line = element('li'), name = element('div'), meter = element('meter');
    name.className = 'name';
    const written = element('span', label);
    written.className = 'label';
    name.append(written, element('span', `${(probability * 100).toFixed(1)} %`));
    meter.value = probability;
    meter.ariaLabel = label;
    line.append(name, meter);
    return line;
  }));
}

function prepareCamera() {
  const button = byId('camera');
  if (!navigator.mediaDevices) {
    button.hidden = true;
    byId('hint').textContent = 'or drop one here. The camera needs https or localhost.';
    return;
  }
  button.addEventListener('click', async () => {
    if (!byId('video').hidden) {
      stopCamera();
      return;
    }
    try {
      byId('video').srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    } catch (fault) {
      byId('hint').textContent = `The camera cannot be used: ${fault.message}`;
      return;
    }
    byId('video').hidden = false;
    byId('image').hidden = true;
    button.textContent = 'Stop the camera';
    await byId('video').play();
    while (!byId('video').hidden) {
      await tryImage(byId('video'));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
}

function stopCamera() {
  byId('video').srcObject?.getTracks().forEach((track) => track.stop());
  byId('video').hidden = true;
  byId('camera').textContent = 'Use the camera';
}
