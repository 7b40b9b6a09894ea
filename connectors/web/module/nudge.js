// A model that answers and learns in the page: see nudge.d.ts. The module runs in a worker
// (worker.js), so that the page never waits.

export class NudgeError extends Error {}

const kSilenceMs = 60_000;

export async function load(model, {onProgress, signal, silenceMs = kSilenceMs, ...options} = {}) {
  const device = new Device(silenceMs);
  try {
    await device.open(model, options, {onProgress, signal});
    return device;
  } catch (error) {
    device.close();
    throw error;
  }
}

class Device {
  #worker = new Worker(new URL('worker.js', import.meta.url), {type: 'module'});
  #shared = globalThis.crossOriginIsolated ? new Int32Array(new SharedArrayBuffer(4)) : null;
  #silenceMs;
  #calls = new Map();  // by id: {resolve, reject, onTold}
  #lastId = 0;
  #timer = 0;
  #ended = '';  // why it answers no more

  constructor(silenceMs) {
    this.#silenceMs = silenceMs;
    this.#worker.onmessage = ({data}) => this.#take(data);
    this.#worker.onmessageerror = () => this.#end('the worker sent what cannot be read');
    this.#worker.onerror = event => {
      event.preventDefault();
      this.#end(`the worker failed: ${event.message ?? 'its script cannot be loaded'}`);
    };
  }

  open(model, options, {onProgress, signal}) {
    const dictionaries = absolute(options.dictionaries);
    return this.#call('load', [absolute(model), {...options, dictionaries}, this.#shared],
                      {onTold: onProgress, signal});
  }

  setSystem(text) {
    return this.#call('setSystem', [text]);
  }

  addExample(question, answer) {
    return this.#call('addExample', [question, answer]);
  }

  addDocument(id, text, title) {
    return this.#call('addDocument', [id, text, title]);
  }

  removeDocument(id) {
    return this.#call('removeDocument', [id]);
  }

  search(question) {
    return this.#call('search', [question]);
  }

  ask(question, {onToken, signal, ...options} = {}) {
    return this.#call('ask', [question, options],
                      {signal, onTold: ({text}) => text && onToken?.(text)});
  }

  learn(answer, {onProgress, signal, ...feedback}) {
    return this.#call('learn', [answer.id ?? answer, feedback], {signal, onTold: onProgress});
  }

  plug(adapter, {sha256, onProgress, signal} = {}) {
    return this.#call('plug', [absolute(adapter), {sha256}], {signal, onTold: onProgress});
  }

  importAdapter(adapter) {
    return this.#call('importAdapter', [absolute(adapter)]);
  }

  unplug() {
    return this.#call('unplug', []);
  }

  reset() {
    return this.#call('reset', []);
  }

  exportAdapter(options) {
    return this.#call('exportAdapter', [options]);
  }

  exportLessons() {
    return this.#call('exportLessons', []);
  }

  state() {
    return this.#call('state', []);
  }

  save(name) {
    return this.#call('save', [name]);
  }

  restore(name) {
    return this.#call('restore', [name]);
  }

  // Plugs each further snapshot of a tenant's adapter that the server publishes, until the signal.
  async follow(server, tenant, {everyMs = 2000, key, signal, onPlug, onRefused} = {}) {
    const {baseSha256} = await this.state();
    const headers = key ? {Authorization: `Bearer ${key}`} : {};
    let settled = '';  // the snapshot that is plugged, or refused: it will not get better
    while (!signal?.aborted && !this.#ended) {
      try {
        const newest = await newestSnapshot(server, tenant, headers, signal);
        if (newest && newest.name !== settled) {
          const {bytes, sha256} = await fetchSnapshot(server, newest, headers, signal);
          settled = newest.name;
          if (newest.base.sha256 !== baseSha256) {
            throw new NudgeError('the server\'s adapter is of another model; load the one it serves');
          }
          const told = await this.plug(bytes, {sha256, signal});
          onPlug?.({...told, snapshot: newest.name, version: newest.version});
        }
      } catch (error) {
        if (signal?.aborted || this.#ended) break;
        onRefused?.(error.message);
      }
      await sleep(everyMs, signal);
    }
    if (this.#ended) throw new NudgeError(this.#ended);
  }

  get ended() {
    return this.#ended;
  }

  close() {
    this.#end('it was closed');
  }

  #call(call, args, {onTold, signal} = {}) {
    if (this.#ended) return Promise.reject(new NudgeError(this.#ended));
    if (signal?.aborted) return Promise.reject(new NudgeError('it was stopped'));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const stop = () => {
        if (this.#shared) Atomics.store(this.#shared, 0, id);
        this.#worker.postMessage({call: 'stop', id});
      };
      signal?.addEventListener('abort', stop, {once: true});
      const done = () => signal?.removeEventListener('abort', stop);
      this.#calls.set(id, {resolve, reject, onTold, done});
      try {
        this.#worker.postMessage({id, call, args});
      } catch (error) {  // what cannot be copied into the worker
        this.#calls.delete(id);
        done();
        reject(new NudgeError(error.message));
      }
      this.#listen();
    });
  }

  // While there are calls, the worker has so long for its next word.
  #listen() {
    clearTimeout(this.#timer);
    if (this.#calls.size === 0) return;
    this.#timer = setTimeout(
        () => this.#end(`the worker said nothing for ${this.#silenceMs / 1000} seconds`),
        this.#silenceMs);
  }

  #take({id, told, value, error, crashed}) {
    const call = this.#calls.get(id);
    if (!call) return;
    if (told) {
      call.onTold?.(told);
    } else {
      this.#calls.delete(id);
      call.done();
      if (error === undefined) {
        call.resolve(value);
      } else if (crashed) {
        this.#calls.set(id, call);
        this.#end(`the module failed: ${error}`);
      } else {
        call.reject(new NudgeError(error));
      }
    }
    this.#listen();
  }

  #end(why) {
    if (this.#ended) return;
    this.#ended = `${why}; load the model again, and restore what was saved`;
    this.#worker.terminate();
    clearTimeout(this.#timer);
    for (const {reject, done} of this.#calls.values()) {
      done();
      reject(new NudgeError(this.#ended));
    }
    this.#calls.clear();
  }
}

const absolute = from => typeof from === 'string' ? new URL(from, document.baseURI).href : from;

function sleep(ms, signal) {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, {once: true});
  });
}

const kPatienceMs = 30_000;  // with a server

function within(signal) {
  const limit = AbortSignal.timeout(kPatienceMs);
  return signal ? AbortSignal.any([signal, limit]) : limit;
}

async function newestSnapshot(server, tenant, headers, signal) {
  const url = new URL(`/v1/adapters/${encodeURIComponent(tenant)}?limit=1`, server);
  const response = await fetch(url, {headers, signal: within(signal), cache: 'no-cache'});
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new NudgeError(body.error ? `${body.error.message}. ${body.error.remedy}`
                                    : `${url} answers ${response.status}`);
  }
  return body.snapshots[0];
}

async function fetchSnapshot(server, snapshot, headers, signal) {
  const file = snapshot.files.find(({name}) => name === 'adapter.gguf');
  if (!file) throw new NudgeError(`snapshot ${snapshot.name} has no adapter.gguf`);
  const response = await fetch(new URL(file.path, server), {headers, signal: within(signal)});
  if (!response.ok) throw new NudgeError(`${file.path} answers ${response.status}`);
  return {bytes: await response.arrayBuffer(), sha256: file.sha256};
}
