// The module as calls that block: see learner.d.ts. For a worker, and for node.
import makeModule from './nudge_module.mjs';

const objectives = {crossEntropy: 0, down: 1, anchor: 2};
const kAnswersKept = 64;  // as WebChat

export class NudgeError extends Error {}

export async function open(model, options = {}) {
  const {wasmBinary, dictionaries} = options;
  const module = await makeModule(wasmBinary ? {wasmBinary} : {});
  return new Learner(module, new Uint8Array(model), options, dictionaries);
}

class Learner {
  #module;
  #session;
  #text;       // 0: the model has none,
  #whyNoText;  // because
  #plugged = true;
  #shown = new Map();  // answers by number

  constructor(module, bytes, options, dictionaries) {
    const {stepTokensMax = 256, rank = 8, alpha = 16, seed = 1, windowTokens = 512, passages = 2,
           learningRate = 5e-4, warmupSteps = 8} = options;
    this.#module = module;
    if (dictionaries) {
      this.#check(module._nudge_set_dictionaries(this.#copy(new Uint8Array(dictionaries))));
    }
    const memory = this.#copy(bytes);
    this.#text = module._nudge_text_open(memory, bytes.length, windowTokens, stepTokensMax, passages);
    if (!this.#text) this.#whyNoText = this.#sentence();
    this.#session = module._nudge_open(memory, bytes.length, stepTokensMax, rank, alpha, seed,
                                       windowTokens, learningRate, warmupSteps);
    if (!this.#session) {
      module._nudge_text_close(this.#text);
      this.#check(0);
    }
  }

  close() {
    this.#module._nudge_close(this.#session);
    this.#module._nudge_text_close(this.#text);
    this.#session = this.#text = 0;
  }

  // ---- Text

  setSystem(text) {
    this.#call('set_system', [text]);
  }

  addExample(question, answer) {
    this.#call('add_example', [question, answer]);
  }

  addDocument(id, text, title = '') {
    return Number(this.#call('add_document', [id, title, text])[0]);
  }

  removeDocument(id) {
    return Number(this.#call('remove_document', [id])[0]);
  }

  search(question) {
    return passagesOf(this.#call('search', [question]));
  }

  // Yields pieces of the answer, and between them '' wherever a worker may look at other things;
  // returns the answer.
  *asking(question, {turns = [], tokensMax = 128, plugged} = {}) {
    const texts = turns.flatMap(({role, content}) => [role, content]);
    const [number, ...passages] = this.#call('ask', [...texts, question], tokensMax);
    const decoder = new TextDecoder();
    const drawn = [];
    let text = '';
    let told = 0;  // bytes
    for (const token of this.#drawing(this.#textTokens(), tokensMax, plugged)) {
      if (token === undefined) {
        yield '';
        continue;
      }
      if (this.#module._nudge_text_ends(this.#text, token)) break;
      drawn.push(token);
      const bytes = this.#spell(drawn);
      // What the end cuts off of a character is left out.
      const piece = decoder.decode(bytes.subarray(told), {stream: true});
      told = bytes.length;
      text += piece;
      yield piece;
    }
    const id = Number(number);
    this.#shown.set(id, text);
    if (this.#shown.size > kAnswersKept) this.#shown.delete(this.#shown.keys().next().value);
    return {id, text, tokens: drawn.length, citations: passagesOf(passages)};
  }

  ask(question, {onText, ...options} = {}) {
    const pieces = this.asking(question, options);
    for (;;) {
      const {done, value} = pieces.next();
      if (done) return value;
      if (value) onText?.(value);
    }
  }

  teach(answer, {rating = 0, correction} = {}) {
    const number = {up: 1, down: -1}[rating] ?? rating;
    const shown = this.#shown.get(answer);
    if (shown === undefined) {
      throw new NudgeError(`answer ${answer} is not among the last ${kAnswersKept}; ask again, and ` +
                           'rate that answer');
    }
    const texts = correction === undefined ? [shown] : [shown, correction];
    const [why, before, after, tokens, leftOut] =
        this.#call('teach', texts, this.#session, answer, number);
    return {learnt: why === '', why, nllBefore: Number(before),
            nllAfter: after === '' ? null : Number(after), tokens: Number(tokens),
            tokensLeftOut: Number(leftOut)};
  }

  setAnchors(anchors) {
    this.#call('set_anchors', anchors.flatMap(({question, answer}) => [question, answer]),
               this.#session);
  }

  chatTokens(chat) {
    const messages = typeof chat === 'string' ? [{role: 'user', content: chat}] : chat;
    this.#call('chat', messages.flatMap(({role, content}) => [role, content]));
    return this.#textTokens();
  }

  // ---- Tokens

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

  answer(prompt, {tokensMax = 128, ends = [], plugged, onToken} = {}) {
    const tokens = [];
    for (const token of this.#drawing(prompt, tokensMax, plugged)) {
      if (token === undefined) continue;
      if (ends.includes(token)) break;
      tokens.push(token);
      onToken?.(token, this.#logits());
    }
    return tokens;
  }

  // ---- The adapter

  plug(gguf) {
    this.importAdapter(gguf);
    this.#plugged = true;
  }

  unplug() {
    this.#plugged = false;
  }

  get plugged() {
    return this.#plugged;
  }

  exportAdapter({f16 = true} = {}) {
    this.#check(this.#module._nudge_export(this.#session, f16 ? 1 : 0));
    return this.#bytes();
  }

  exportLessons() {
    this.#check(this.#module._nudge_export_lessons(this.#session));
    return this.#bytes();
  }

  importAdapter(gguf) {
    const bytes = new Uint8Array(gguf);
    this.#withCopy(bytes, memory => this.#module._nudge_import(this.#session, memory, bytes.length));
  }

  reset() {
    this.#module._nudge_reset(this.#session);
  }

  save() {
    this.#check(this.#module._nudge_save(this.#session));
    return {lessons: this.#bytes(), texts: this.#text ? this.#bytesTold('save', []) : new Uint8Array(0)};
  }

  restore({lessons, texts}) {
    // Texts first: they fail before anything has changed, and are put back where lessons fail.
    const before = this.#text && texts.length ? this.#bytesTold('save', []) : null;
    if (before) this.#call('load', [texts]);
    try {
      this.#withCopy(lessons, memory => this.#module._nudge_restore(
          this.#session, memory, lessons.length));
    } catch (error) {
      if (before) this.#call('load', [before]);
      throw error;
    }
  }

  // Called between the parts of a lesson; ends it where it says yes.
  set onBeat(beat) {
    this.#module.beat = () => beat() ? 1 : 0;
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

  // ---- Below

  // Yields undefined for each part of the prompt that was read, then the tokens.
  *#drawing(prompt, tokensMax, plugged = this.#plugged) {
    this.#withCopy(Int32Array.from(prompt), memory => this.#module._nudge_ask(
        this.#session, memory, prompt.length, plugged ? 1 : 0));
    for (let more = 1; more === 1;) {
      more = this.#check(this.#module._nudge_read(this.#session));
      yield undefined;
    }
    for (let drawn = 0; drawn < tokensMax; ++drawn) {
      this.#check(this.#module._nudge_next(this.#session));
      const token = this.#module._nudge_token(this.#session);
      if (token < 0) return;
      yield token;
    }
  }

  #lessonTokens({asked, answer}) {
    const prompt = this.chatTokens(asked);
    this.#call('answer', [answer]);
    return {tokens: [...prompt, ...this.#textTokens()], completionBegin: prompt.length};
  }

  // nudge_text_NAME with these texts (or bytes), and the texts that it tells.
  #call(name, texts, ...numbers) {
    this.#give(name, texts, numbers);
    const count = this.#module._nudge_text_told_count(this.#text);
    return Array.from({length: count}, (_, i) => new TextDecoder().decode(this.#told(i)));
  }

  #bytesTold(name, texts) {
    this.#give(name, texts, []);
    return this.#told(0).slice();
  }

  #give(name, texts, numbers) {
    if (!this.#text) throw new NudgeError(this.#whyNoText);
    for (const text of texts) {
      const bytes = text instanceof Uint8Array ? text : new TextEncoder().encode(String(text));
      this.#withCopy(bytes, memory => this.#module._nudge_text_put(this.#text, memory, bytes.length));
    }
    this.#check(this.#module[`_nudge_text_${name}`](this.#text, ...numbers));
  }

  #told(index) {
    const begin = this.#module._nudge_text_told(this.#text, index);
    return this.#module.HEAPU8.subarray(
        begin, begin + this.#module._nudge_text_told_bytes(this.#text, index));
  }

  #textTokens() {
    const begin = this.#module._nudge_text_tokens(this.#text);
    const count = this.#module._nudge_text_token_count(this.#text);
    return Array.from(new Int32Array(this.#module.HEAPU8.buffer, begin, count));
  }

  #spell(tokens) {
    this.#withCopy(Int32Array.from(tokens), memory => this.#module._nudge_text_spell(
        this.#text, memory, tokens.length));
    return this.#told(0).slice();
  }

  #bytes() {
    const begin = this.#module._nudge_bytes(this.#session);
    return this.#module.HEAPU8.slice(begin, begin + this.#module._nudge_byte_count(this.#session));
  }

  #logits() {
    return new Float32Array(this.#module.HEAPU8.buffer,
                            this.#module._nudge_logits(this.#session),
                            this.#module._nudge_logit_count(this.#session));
  }

  // The place of a copy of the bytes in the module's memory.
  #copy(bytes) {
    const memory = this.#check(this.#module._nudge_allocate(bytes.length));
    this.#module.HEAPU8.set(bytes, memory);
    return memory;
  }

  // Calls use(place of the array's bytes), and throws where that says no.
  #withCopy(array, use) {
    const memory = this.#copy(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    try {
      this.#check(use(memory));
    } finally {
      this.#module._nudge_free(memory);
    }
  }

  #sentence() {
    return this.#module.UTF8ToString(this.#module._nudge_error());
  }

  #check(result) {
    if (!result) throw new NudgeError(this.#sentence());
    return result;
  }
}

function passagesOf(texts) {
  const passages = [];
  for (let i = 0; i + 5 < texts.length; i += 6) {
    const [document, version, chunk, title, text, score] = texts.slice(i, i + 6);
    passages.push({document, version: Number(version), chunk: Number(chunk), title, text,
                   score: Number(score)});
  }
  return passages;
}
