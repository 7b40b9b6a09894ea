// The page that answers and learns by itself, over nudge.js. Everything that comes from outside is
// set as text, never as HTML.
import {TEXTS} from './device_texts.js';
import {load} from './nudge.js';

const element = id => document.getElementById(id);
const options = Object.fromEntries(  // ?learningRate=1e-3&warmupSteps=0, as ModelOptions
    [...new URLSearchParams(location.search)].map(([name, value]) => [name, Number(value)]));
let device = null;
let following = null;  // an AbortController

let language = (navigator.language || 'en').startsWith('zh') ? 'zh' : 'en';
const text = () => TEXTS[language];

function translate(root) {
  for (const one of root.querySelectorAll('[data-text]')) one.textContent = text()[one.dataset.text];
}

async function speak(chosen) {
  language = chosen;
  document.documentElement.lang = element('language').value = language;
  document.title = text().title;
  translate(document);
  translate(element('answer-template').content);
  if (device && !device.ended) showAdapter(await device.state());
}

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
  const megabytes = Math.round(memoryBytes / 1e6);
  const by = plugged ? text().byAdapter(digest.slice(0, 12), megabytes) : text().byBase(megabytes);
  element('adapter').textContent = `${by} ${more}`.trim();
}

element('load').addEventListener('submit', event => {
  event.preventDefault();
  attempt(async () => {
    following?.abort();
    device?.close();
    enable(false);
    show(text().loading);
    device = await load(element('model').value, {
      ...options,
      onProgress: ({bytes, bytesTotal}) => {
        element('load-progress').value = bytesTotal ? bytes / bytesTotal : 0;
      },
    });
    showAdapter(await device.state());
    enable(true);
    show(text().loaded);
  });
});

async function ask(item, question) {
  const shown = item.querySelector('.text');
  show(text().answering);
  const answer = await device.ask(question, {onToken: piece => { shown.textContent += piece; }});
  shown.textContent = answer.text;
  item.querySelector('.origin').textContent =
      answer.citations.map(({document, version}) => text().citation(document, version)).join(' · ');
  item.querySelector('.actions').hidden = item.querySelector('.correction').hidden = false;
  show(text().answered);
  return answer;
}

async function learn(item, answer, feedback) {
  const told = item.querySelector('.told');
  const stop = item.querySelector('.stop');
  const ending = new AbortController();
  const end = () => ending.abort();
  stop.addEventListener('click', end);
  stop.hidden = !crossOriginIsolated;
  told.textContent = text().learning;
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
        ? text().learnt(lesson.nllBefore.toFixed(2),
                        (lesson.nllAfter ?? lesson.nllBefore).toFixed(2))
        : text().setAside(lesson.why);
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
  showAdapter(told, text().plugged(told.plugMs.toFixed(0)));
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
  show(text().kept((bytes / 1e6).toFixed(1)));
}));

element('restore').addEventListener('click', () => attempt(async () => {
  showAdapter(await device.restore());
  show(text().restored);
}));

element('follow').addEventListener('submit', event => {
  event.preventDefault();
  following?.abort();
  following = new AbortController();
  attempt(() => device.follow(element('server').value, element('tenant').value, {
    signal: following.signal,
    onPlug: told => showAdapter(
        told, text().followed(told.version, told.plugMs.toFixed(0))),
    onRefused: show,
  }));
});

element('document').addEventListener('submit', event => {
  event.preventDefault();
  attempt(async () => {
    const passages = await device.addDocument(element('document-id').value,
                                              element('document-text').value);
    show(text().added(passages));
  });
});

element('language').addEventListener('change', ({target}) => attempt(() => speak(target.value)));
speak(language);
