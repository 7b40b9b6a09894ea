// A model that learns in the page, by the server's trainer: see nudge.d.ts.
import makeModule from './nudge_module.mjs';

const objectives = {crossEntropy: 0, down: 1, anchor: 2};

export class NudgeError extends Error {}

export async function load(model, options = {}) {
  const {stepTokensMax = 256, rank = 8, alpha = 16, seed = 1, windowTokens = 512, wasmBinary} =
      options;
  const module = await makeModule(wasmBinary ? {wasmBinary} : {});
  return new Learner(module, model, [stepTokensMax, rank, alpha, seed, windowTokens]);
}

class Learner {
  #module;
  #session;

  constructor(module, model, numbers) {
    this.#module = module;
    const bytes = new Uint8Array(model);
    const memory = this.#allocate(bytes.length);
    module.HEAPU8.set(bytes, memory);
    this.#session = module._nudge_open(memory, bytes.length, ...numbers);
    this.#check(this.#session);
  }

  close() {
    this.#module._nudge_close(this.#session);
    this.#session = 0;
  }

  learn(sequences) {
    for (const {tokens, completionBegin, objective = 'crossEntropy', weight = 1, keep = 0,
                reachFloor = 1} of sequences) {
      const number = objectives[objective] ?? 3;
      this.#withCopy(Int32Array.from(tokens), memory => this.#module._nudge_add(
          this.#session, memory, tokens.length, completionBegin, number, weight, keep, reachFloor));
    }
    this.#check(this.#module._nudge_learn(this.#session));
    return this.#module._nudge_loss(this.#session);
  }

  answer(prompt, {tokensMax = 128, ends = [], plugged = true, onToken} = {}) {
    this.#withCopy(Int32Array.from(prompt), memory => this.#module._nudge_ask(
        this.#session, memory, prompt.length, plugged ? 1 : 0));
    const tokens = [];
    while (tokens.length < tokensMax) {
      this.#check(this.#module._nudge_next(this.#session));
      const token = this.#module._nudge_token(this.#session);
      if (token < 0 || ends.includes(token)) break;
      tokens.push(token);
      onToken?.(token, this.#logits());
    }
    return tokens;
  }

  exportAdapter({f16 = true} = {}) {
    this.#check(this.#module._nudge_export(this.#session, f16 ? 1 : 0));
    const begin = this.#module._nudge_bytes(this.#session);
    const count = this.#module._nudge_byte_count(this.#session);
    return this.#module.HEAPU8.slice(begin, begin + count);
  }

  importAdapter(gguf) {
    const bytes = new Uint8Array(gguf);
    this.#withCopy(bytes, memory => this.#module._nudge_import(this.#session, memory, bytes.length));
  }

  reset() {
    this.#module._nudge_reset(this.#session);
  }

  get digest() {
    return this.#module.UTF8ToString(this.#module._nudge_digest(this.#session));
  }

  get baseSha256() {
    return this.#module.UTF8ToString(this.#module._nudge_base_sha256(this.#session));
  }

  get memoryBytes() {
    return this.#module.HEAPU8.length;
  }

  #logits() {
    return new Float32Array(this.#module.HEAPU8.buffer,
                            this.#module._nudge_logits(this.#session),
                            this.#module._nudge_logit_count(this.#session));
  }

  #allocate(count) {
    const memory = this.#module._nudge_allocate(count);
    this.#check(memory);
    return memory;
  }

  // Calls use(place of the array's bytes), and throws where that says no.
  #withCopy(array, use) {
    const memory = this.#allocate(array.byteLength);
    try {
      this.#module.HEAPU8.set(
          new Uint8Array(array.buffer, array.byteOffset, array.byteLength), memory);
      this.#check(use(memory));
    } finally {
      this.#module._nudge_free(memory);
    }
  }

  #check(result) {
    if (!result) throw new NudgeError(this.#module.UTF8ToString(this.#module._nudge_error()));
  }
}
