// A model that answers and learns in the page: an address of a GGUF -> load -> Device.
//
// A worker has the model; no call blocks the page. Every call ends: by its value, by a NudgeError
// whose message is a sentence that says what to do, or by its signal. Whatever fails has left
// adapter, documents and what was saved as they were. A worker that fails, or says nothing for
// silenceMs, is ended: then every call says so, and the model can be loaded again.
//
// The numbers are the server's with adapt.products: portable; the stages are the server's own.

export class NudgeError extends Error {}

export interface LoadOptions extends ModelOptions {
  onProgress?: (told: {bytes: number; bytesTotal: number}) => void;  // bytesTotal 0: unknown
  signal?: AbortSignal;
  silenceMs?: number;  // 60,000
  // Words of Chinese, Japanese, Thai, Lao, Khmer and Burmese, for search; without them a run of
  // such writing is one word. true: nudge_dictionaries.dat from beside this script.
  dictionaries?: true | string | ArrayBuffer;
  // Neutral texts by which lessons hold the model near its base.
  anchors?: {question: string; answer: string}[];
}

export interface ModelOptions {
  stepTokensMax?: number;  // of all texts of a lesson, 256; memory for them is taken at once
  rank?: number;           // of the adapter, 1 to 64; 8
  alpha?: number;          // 16
  seed?: number;           // of a new adapter, as adapt.seed; 1
  windowTokens?: number;   // of a prompt and its answer, 512; cut to what the model was made for
  passages?: number;       // of documents, before a question; 2
  learningRate?: number;   // as adapt.learning_rate, 5e-4
  warmupSteps?: number;    // as adapt.warmup_steps, 8
}

// Copies the model, of architecture llama, qwen2 or qwen3.
export function load(model: string | ArrayBuffer | Uint8Array, options?: LoadOptions): Promise<Device>;

export interface State {
  plugged: boolean;
  digest: string;      // SHA-256 of the adapter's values and shape, in hex
  baseSha256: string;  // of the model's bytes
  memoryBytes: number; // of the module; it never shrinks
}

export interface Passage {
  document: string;
  version: number;  // of the document: 1, 2, ...
  chunk: number;    // of the document, from 0
  title: string;
  text: string;
  score: number;    // BM25
}

export interface Answer {
  id: number;
  text: string;
  tokens: number;
  citations: Passage[];  // that the prompt showed, [1] first
}

export interface AskOptions {
  turns?: {role: 'user' | 'assistant'; content: string}[];  // earlier ones, oldest first
  tokensMax?: number;  // 128
  plugged?: boolean;   // by the adapter, or by the base model exactly; else as plug and unplug say
  onToken?: (text: string) => void;  // each further piece of the answer, whole characters
  signal?: AbortSignal;
}

export interface Feedback {
  rating?: 'up' | 'down' | number;  // -1 to 1
  correction?: string;              // how the answer should have been
  // Parts of the lesson that are done, and how many the lesson before had (null: it is the first).
  onProgress?: (told: {parts: number; partsBefore: number | null}) => void;
  // Ends a lesson where the page is cross-origin isolated; elsewhere it runs to its end.
  signal?: AbortSignal;
}

export interface Lesson {
  learnt: boolean;
  why: string;              // it was set aside; empty: it was learnt
  nllBefore: number;        // nats per token of what is taught, before the step,
  nllAfter: number | null;  // and behind it
  tokens: number;           // through the model; 0: there was nothing to learn
  tokensLeftOut: number;    // that found no room
}

export interface Saved {
  number: number;  // 1, 2, ... of its name
  bytes: number;
}

export interface Device {
  // Answers and lessons are given one after the other; the other calls are done in between.
  ask(question: string, options?: AskOptions): Promise<Answer>;

  // One lesson by the server's rule (stages/model/learn/learner.h), of one of the last 64 answers.
  learn(answer: Answer | number, feedback: Feedback): Promise<Lesson>;

  setSystem(text: string): Promise<void>;  // before every question; empty: none
  // How such a question is answered; of 200 at most the two that are nearest by their words stand
  // before a question.
  addExample(question: string, answer: string): Promise<void>;
  // Takes the place of the document's older version. How many passages.
  addDocument(id: string, text: string, title?: string): Promise<number>;
  removeDocument(id: string): Promise<number>;  // how many passages went; 0: there is none such
  search(question: string): Promise<Passage[]>;

  // Answers by that adapter from the next one on, and lessons go on from it: one that nudge wrote
  // for this model, rank and alpha. sha256: that it is to have. plugMs: from bytes to plugged.
  plug(adapter: string | ArrayBuffer | Uint8Array,
       options?: {sha256?: string; signal?: AbortSignal;
                  onProgress?: (told: {bytes: number; bytesTotal: number}) => void}):
      Promise<State & {plugMs: number}>;
  // Answers by the base model, until the next plug. What is learnt changes the adapter in either
  // case.
  unplug(): Promise<State>;
  // Plugs the newest snapshot of the tenant's adapter, and each further one that the server
  // publishes, until the signal. A server that cannot be reached is asked again. Rejects once the
  // worker has ended.
  follow(server: string, tenant: string, options?: {
    everyMs?: number;  // 2,000
    key?: string;      // where the server has keys
    signal?: AbortSignal;
    onPlug?: (told: State & {plugMs: number; snapshot: string; version: number}) => void;
    onRefused?: (sentence: string) => void;  // the adapter of before stays
  }): Promise<void>;

  // A GGUF that the server, llama.cpp and plug take. f16 (true): half the size, rounded.
  exportAdapter(options?: {f16?: boolean}): Promise<Uint8Array>;
  // What has decided the adapter, as lines of JSON by which `nudge verify` learns it again: token
  // ids and numbers. Token ids spell the texts of what was taught. save keeps it.
  exportLessons(): Promise<Uint8Array>;
  importAdapter(adapter: string | ArrayBuffer | Uint8Array): Promise<State>;  // without plugging it
  reset(): Promise<State>;  // a new adapter: the base model exactly

  // Adapter, what lessons go on from, their log, documents, examples and system prompt, in the
  // origin's private file system; name: a to z, digits, _ and -. Not where another page saved
  // meanwhile.
  save(name?: string): Promise<Saved>;
  // damaged: how many older or newer saves were not whole, and passed over.
  restore(name?: string): Promise<State & {number: number; damaged: number}>;

  state(): Promise<State>;
  readonly ended: string;  // why it answers no more; empty: it does
  close(): void;
}
