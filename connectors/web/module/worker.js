// Owns the module for nudge.js: messages {id, call, args} -> learner.js -> {id, value | error}, and
// while a call goes on {id, told}.
//
// Answers and lessons come one after the other; everything else is done between two tokens of an
// answer, so that an adapter is plugged while one is being given.
import {open, NudgeError} from './learner.js';
import * as store from './store.js';

const kBeatMs = 100;  // between two words about a lesson
const kModelBytesMax = 1.5 * 2 ** 30;

let learner = null;
let flag = null;  // shared with the page: the call that is to stop; null: there is no such memory
const stopped = new Set();
let turn = Promise.resolve();  // of answers and lessons
let partsBefore = null;        // of the last lesson

const tell = (id, told) => postMessage({id, told});
const pause = (() => {
  const {port1, port2} = new MessageChannel();
  const waiting = [];
  port1.onmessage = () => waiting.shift()();
  return () => new Promise(resolve => {
    waiting.push(resolve);
    port2.postMessage(0);
  });
})();

function expectRunning(id) {
  if (stopped.has(id)) throw new NudgeError('it was stopped');
}

// The bytes behind an address, with {bytes, bytesTotal} as they come.
async function fetchBytes(id, url, {cache = 'default', bytesMax = kModelBytesMax} = {}) {
  let response;
  try {
    response = await fetch(url, {cache});
  } catch {
    throw new NudgeError(`${url} cannot be reached; look at the address and the network`);
  }
  if (!response.ok) throw new NudgeError(`${url} answers ${response.status}; look at the address`);
  const encoded = response.headers.get('Content-Encoding');
  const bytesTotal = encoded ? 0 : Number(response.headers.get('Content-Length'));
  const parts = [];
  let bytes = 0;
  for (const reader = response.body.getReader();;) {
    const {done, value} = await reader.read().catch(() => {
      throw new NudgeError(`${url} broke off after ${bytes} bytes; try again`);
    });
    if (done) break;
    expectRunning(id);
    parts.push(value);
    bytes += value.length;
    if (bytes > bytesMax) throw new NudgeError(`${url} has more than ${bytesMax} bytes; take a smaller one`);
    tell(id, {bytes, bytesTotal});
  }
  if (bytesTotal && bytes !== bytesTotal) {
    throw new NudgeError(`${url} broke off after ${bytes} of ${bytesTotal} bytes; try again`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function bytesOf(id, from, options) {
  return typeof from === 'string' ? fetchBytes(id, from, options) : new Uint8Array(from);
}

async function expectSha256(bytes, sha256) {
  if (!sha256) return;
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  const hex = Array.from(new Uint8Array(digest), byte => byte.toString(16).padStart(2, '0')).join('');
  if (hex !== sha256) {
    throw new NudgeError('the adapter is not the one that was announced: its SHA-256 differs; fetch it again');
  }
}

const state = () => ({plugged: learner.plugged, digest: learner.digest, baseSha256: learner.baseSha256,
                      memoryBytes: learner.memoryBytes});

function expectLoaded() {
  if (!learner) throw new NudgeError('no model is loaded; call load first');
}

const calls = {
  async load(id, model, {dictionaries, anchors, ...options}, shared) {
    flag = shared;
    const bytes = await bytesOf(id, model);
    const words = dictionaries
        ? await bytesOf(id, dictionaries === true ? new URL('nudge_dictionaries.dat', import.meta.url).href
                                                  : dictionaries)
        : undefined;
    expectRunning(id);
    learner = await open(bytes, {...options, dictionaries: words});
    if (anchors?.length) watch(id, () => learner.setAnchors(anchors));
    return state();
  },
  setSystem: (id, text) => learner.setSystem(text),
  addExample: (id, question, answer) => learner.addExample(question, answer),
  addDocument: (id, name, text, title) => learner.addDocument(name, text, title),
  removeDocument: (id, name) => learner.removeDocument(name),
  search: (id, question) => learner.search(question),
  async ask(id, question, options) {
    const pieces = learner.asking(question, options);
    for (;;) {
      const {done, value} = pieces.next();
      if (done) return value;
      tell(id, {text: value});
      await pause();
      expectRunning(id);
    }
  },
  learn: (id, answer, feedback) => watch(id, () => learner.teach(answer, feedback)),
  async plug(id, adapter, {sha256} = {}) {
    const bytes = await bytesOf(id, adapter, {cache: 'no-cache', bytesMax: 2 ** 28});
    await expectSha256(bytes, sha256);
    const begun = performance.now();
    learner.plug(bytes);
    return {...state(), plugMs: performance.now() - begun};
  },
  async importAdapter(id, adapter) {
    learner.importAdapter(await bytesOf(id, adapter, {cache: 'no-cache', bytesMax: 2 ** 28}));
    return state();
  },
  unplug() {
    learner.unplug();
    return state();
  },
  reset() {
    learner.reset();
    return state();
  },
  exportAdapter: (id, options) => learner.exportAdapter(options),
  exportLessons: () => learner.exportLessons(),
  state,
  save: (id, name) => store.save(name, learner.baseSha256, learner.save()),
  async restore(id, name) {
    const saved = await store.restore(name, learner.baseSha256);
    learner.restore(saved);
    store.standAt(name, saved.number);
    return {...state(), number: saved.number, damaged: saved.damaged};
  },
};

// A lesson, of which the page is told how far it is, and which it may end.
function watch(id, lesson) {
  let parts = 0;
  let told = performance.now();
  learner.onBeat = () => {
    ++parts;
    const now = performance.now();
    if (now - told >= kBeatMs) {
      told = now;
      tell(id, {parts, partsBefore});
    }
    return flag !== null && Atomics.load(flag, 0) === id;
  };
  const value = lesson();
  partsBefore = parts;
  return value;
}

async function run({id, call, args}) {
  expectRunning(id);
  if (call !== 'load') expectLoaded();
  return calls[call](id, ...args);
}

async function answer(message) {
  const {id, call} = message;
  try {
    let value;
    if (['load', 'ask', 'learn'].includes(call)) {
      turn = turn.then(() => run(message), () => run(message));
      value = await turn;
    } else {
      value = await run(message);
    }
    postMessage({id, value});
  } catch (error) {
    // What WebAssembly itself throws leaves a module that nobody knows.
    const crashed = error instanceof WebAssembly.RuntimeError;
    const sentence = error instanceof NudgeError || crashed || error instanceof RangeError;
    postMessage({id, error: sentence ? error.message : `${error.name}: ${error.message}`, crashed});
    if (crashed) close();
  } finally {
    stopped.delete(id);
  }
}

onmessage = ({data}) => {
  if (data.call === 'stop') {
    stopped.add(data.id);
  } else {
    answer(data);
  }
};
