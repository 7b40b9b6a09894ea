// A model that learns in the page, by the server's trainer: see nudge.d.ts.
import makeModule from './nudge_module.mjs';

const roles = ['system', 'user', 'assistant'];
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
  #text;      // 0: the model has none,
  #whyNoText;  // because
  #system = '';
  #plugged = true;

  constructor(module, model, numbers) {
    this.#module = module;
    const bytes = new Uint8Array(model);
    const memory = this.#allocate(bytes.length);
    module.HEAPU8.set(bytes, memory);
    this.#text = module._nudge_text_open(memory, bytes.length);
    if (!this.#text) this.#whyNoText = module.UTF8ToString(module._nudge_error());
    this.#session = module._nudge_open(memory, bytes.length, ...numbers);
    this.#check(this.#session);
  }

  close() {
    this.#module._nudge_close(this.#session);
    this.#module._nudge_text_close(this.#text);
    this.#session = this.#text = 0;
  }

  learn(lesson) {
    const sequences = lesson.map(of => of.tokens ? of : {...of, ...this.#lessonTokens(of)});
    for (const {tokens, completionBegin, objective = 'crossEntropy', weight = 1, keep = 0,
                reachFloor = 1} of sequences) {
      const number = objectives[objective] ?? 3;
      this.#withCopy(Int32Array.from(tokens), memory => this.#module._nudge_add(
          this.#session, memory, tokens.length, completionBegin, number, weight, keep, reachFloor));
    }
    this.#check(this.#module._nudge_learn(this.#session));
    return this.#module._nudge_loss(this.#session);
  }

  setSystem(text) {
    this.#system = text;
  }

  ask(asked, {tokensMax = 128, plugged, onText} = {}) {
    const decoder = new TextDecoder();
    const drawn = [];
    let told = 0;  // bytes
    this.#draw(this.chatTokens(asked), tokensMax, plugged, token => {
      if (this.#module._nudge_text_ends(this.#text, token)) return false;
      drawn.push(token);
      if (onText) {
        const bytes = this.#spell(drawn);
        const text = decoder.decode(bytes.subarray(told), {stream: true});
        told = bytes.length;
        if (text) onText(text);
      }
      return true;
    });
    // What the end cuts off of a character is left out.
    return new TextDecoder().decode(this.#spell(drawn), {stream: true});
  }

  chatTokens(asked) {
    this.#requireText();
    const chat = typeof asked === 'string' ? [{role: 'user', content: asked}] : [...asked];
    if (this.#system && chat[0]?.role !== 'system') {
      chat.unshift({role: 'system', content: this.#system});
    }
    for (const {role, content} of chat) {
      const bytes = new TextEncoder().encode(content);
      this.#withCopy(bytes, memory => this.#module._nudge_text_add(
          this.#text, roles.indexOf(role) >>> 0, memory, bytes.length));
    }
    this.#check(this.#module._nudge_text_chat(this.#text));
    return this.#textTokens();
  }

  plug(gguf) {
    this.importAdapter(gguf);
    this.#plugged = true;
  }

  unplug() {
    this.#plugged = false;
  }

  answer(prompt, {tokensMax = 128, ends = [], plugged, onToken} = {}) {
    const tokens = [];
    this.#draw(prompt, tokensMax, plugged, token => {
      if (ends.includes(token)) return false;
      tokens.push(token);
      onToken?.(token, this.#logits());
      return true;
    });
    return tokens;
  }

  // Calls take(token) for each, until it says no.
  #draw(prompt, tokensMax, plugged = this.#plugged, take) {
    this.#withCopy(Int32Array.from(prompt), memory => this.#module._nudge_ask(
        this.#session, memory, prompt.length, plugged ? 1 : 0));
    for (let drawn = 0; drawn < tokensMax; ++drawn) {
      this.#check(this.#module._nudge_next(this.#session));
      const token = this.#module._nudge_token(this.#session);
      if (token < 0 || !take(token)) return;
    }
  }

  #requireText() {
    if (!this.#text) throw new NudgeError(this.#whyNoText);
  }

  #lessonTokens({asked, answer}) {
    const prompt = this.chatTokens(asked);
    const bytes = new TextEncoder().encode(answer);
    this.#withCopy(bytes, memory => this.#module._nudge_text_answer(
        this.#text, memory, bytes.length));
    return {tokens: [...prompt, ...this.#textTokens()], completionBegin: prompt.length};
  }

  #textTokens() {
    const begin = this.#module._nudge_text_tokens(this.#text);
    const count = this.#module._nudge_text_token_count(this.#text);
    return Array.from(new Int32Array(this.#module.HEAPU8.buffer, begin, count));
  }

  #spell(tokens) {
    this.#withCopy(Int32Array.from(tokens), memory => this.#module._nudge_text_spell(
        this.#text, memory, tokens.length));
    const begin = this.#module._nudge_text_bytes(this.#text);
    return this.#module.HEAPU8.slice(
        begin, begin + this.#module._nudge_text_byte_count(this.#text));
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
