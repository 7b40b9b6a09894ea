// The page that answers and learns by itself, over nudge.js. Everything that comes from outside is
// set as text, never as HTML.
import {load} from './nudge.js';

const element = id => document.getElementById(id);
const options = Object.fromEntries(  // ?learningRate=1e-3&warmupSteps=0, as ModelOptions
    [...new URLSearchParams(location.search)].map(([name, value]) => [name, Number(value)]));
let device = null;
let following = null;  // an AbortController

const show = text => { element('status').textContent = text; };

// Runs it, and shows why it failed.
async function attempt(body, told = element('status')) {
  try {
    return await body();
  } catch (error) {
    told.textContent = error.message;
    if (device?.ended) enable(false);
    return undefined;
  }
}

function enable(on) {
  for (const one of document.querySelectorAll('main button, #plug')) {
    if (one.closest('#load') === null) one.disabled = !on;
  }
}

function showAdapter({plugged, digest, memoryBytes}, more = '') {
  const by = plugged ? `Answers by the adapter ${digest.slice(0, 12)}` : 'Answers by the base model';
  element('adapter').textContent = `${by}; ${Math.round(memoryBytes / 1e6)} MB. ${more}`.trim();
}

element('load').addEventListener('submit', event => {
  event.preventDefault();
  attempt(async () => {
    following?.abort();
    device?.close();
    enable(false);
    show('Loading …');
    device = await load(element('model').value, {
      ...options,
      onProgress: ({bytes, bytesTotal}) => {
        element('load-progress').value = bytesTotal ? bytes / bytesTotal : 0;
      },
    });
    showAdapter(await device.state());
    enable(true);
    show('The model is loaded.');
  });
});

async function ask(item, question) {
  const text = item.querySelector('.text');
  show('Answering …');
  const answer = await device.ask(question, {onToken: piece => { text.textContent += piece; }});
  text.textContent = answer.text;
  item.querySelector('.origin').textContent =
      answer.citations.map(({document, version}) => `${document}, version ${version}`).join(' · ');
  item.querySelector('.actions').hidden = item.querySelector('.correction').hidden = false;
  show('The answer is there.');
  return answer;
}

async function learn(item, answer, feedback) {
  const told = item.querySelector('.told');
  const stop = item.querySelector('.stop');
  const ending = new AbortController();
  const end = () => ending.abort();
  stop.addEventListener('click', end);
  stop.hidden = !crossOriginIsolated;
  told.textContent = 'Learning …';
  await attempt(async () => {
    const lesson = await device.learn(answer, {
      ...feedback,
      signal: ending.signal,
      onProgress: ({parts, partsBefore}) => {
        element('lesson-progress').value = partsBefore ? Math.min(parts / partsBefore, 1) : 0;
      },
    });
    element('lesson-progress').value = 1;
    told.textContent = lesson.learnt
        ? `Learnt: ${lesson.nllBefore.toFixed(2)} nats a token before, ` +
          `${(lesson.nllAfter ?? lesson.nllBefore).toFixed(2)} after. Ask again.`
        : `Set aside: ${lesson.why}.`;
    showAdapter(await device.state());
  }, told);
  stop.hidden = true;
  stop.removeEventListener('click', end);
}

element('ask').addEventListener('submit', event => {
  event.preventDefault();
  const question = element('question').value.trim();
  if (!question) return;
  const item = element('answer-template').content.firstElementChild.cloneNode(true);
  item.querySelector('.asked').textContent = question;
  element('answers').prepend(item);
  attempt(async () => {
    const answer = await ask(item, question);
    for (const rating of ['up', 'down']) {
      item.querySelector(`.${rating}`).addEventListener('click', () => learn(item, answer, {rating}));
    }
    item.querySelector('.correction').addEventListener('submit', corrected => {
      corrected.preventDefault();
      learn(item, answer, {rating: 'down', correction: item.querySelector('textarea').value});
    });
  }, item.querySelector('.told'));
});

element('plug').addEventListener('change', ({target}) => attempt(async () => {
  if (target.files.length === 0) return;
  const told = await device.plug(await target.files[0].arrayBuffer());
  showAdapter(told, `Plugged in ${told.plugMs.toFixed(0)} ms.`);
}));

element('unplug').addEventListener('click', () => attempt(async () => {
  showAdapter(await device.unplug());
}));

function download(bytes, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

element('export').addEventListener('click', () => attempt(async () => {
  download(await device.exportAdapter(), 'adapter.gguf');
}));

element('export-lessons').addEventListener('click', () => attempt(async () => {
  download(await device.exportLessons(), 'lessons.jsonl');
}));

element('save').addEventListener('click', () => attempt(async () => {
  const {bytes} = await device.save();
  show(`Kept, ${(bytes / 1e6).toFixed(1)} MB.`);
}));

element('restore').addEventListener('click', () => attempt(async () => {
  showAdapter(await device.restore());
  show('It goes on from what was kept.');
}));

element('follow').addEventListener('submit', event => {
  event.preventDefault();
  following?.abort();
  following = new AbortController();
  attempt(() => device.follow(element('server').value, element('tenant').value, {
    signal: following.signal,
    onPlug: told => showAdapter(
        told, `Version ${told.version} of the server, plugged in ${told.plugMs.toFixed(0)} ms.`),
    onRefused: show,
  }));
});

element('document').addEventListener('submit', event => {
  event.preventDefault();
  attempt(async () => {
    const passages = await device.addDocument(element('document-id').value,
                                              element('document-text').value);
    show(`Added, ${passages} passages.`);
  });
});
