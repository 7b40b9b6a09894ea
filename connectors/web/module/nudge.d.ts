// A model that learns in the page: a GGUF's bytes -> load -> Learner -> lessons, answers, an adapter.
//
// The numbers are the server's with adapt.products: portable, to the last bit. All calls are of one
// thread and block it: a page calls them in a worker. Whatever throws a NudgeError, whose message is
// a sentence, has left the adapter as it was.

export class NudgeError extends Error {}

export interface Options {
  stepTokensMax?: number;  // of all sequences of a step, 256; memory for them is taken at once
  rank?: number;           // of the adapter, 1 to 64; 8
  alpha?: number;          // 16
  seed?: number;           // of a new adapter, as adapt.seed; 1
  windowTokens?: number;   // of a prompt and its answer, 512; cut to what the model was made for
  wasmBinary?: BufferSource;  // where the module is not to be fetched from beside its script
}

export interface Sequence {
  tokens: ArrayLike<number>;  // prompt, then completion
  completionBegin: number;    // 1 to tokens.length - 1
  objective?: 'crossEntropy' | 'down' | 'anchor';
  weight?: number;  // 1
  keep?: number;    // as adapt.keep_lambda, 0
  reachFloor?: number;  // as adapt.reach_floor, 1
}

// Instead of a Sequence, by text: what was asked, and what is to be said.
export interface Correction {
  asked: Asked;
  answer: string;
  weight?: number;  // and keep, reachFloor, objective, as of a Sequence
}

// A question, or a chat whose last message is the question.
export type Asked = string | {role: 'system' | 'user' | 'assistant'; content: string}[];

export interface AskOptions {
  tokensMax?: number;  // 128
  plugged?: boolean;   // as AnswerOptions
  onText?: (text: string) => void;  // each further piece of the answer at once, whole characters
}

export interface AnswerOptions {
  tokensMax?: number;  // 128
  ends?: number[];     // tokens that end the answer, and are left out
  plugged?: boolean;   // by the adapter as it is now, or by the base model exactly; else as plug left it
  // Called for each token at once. The logits are the module's memory: copy what is to stay.
  onToken?: (token: number, logits: Float32Array) => void;
}

// Copies the model, of architecture llama, qwen2 or qwen3.
export function load(model: ArrayBuffer | Uint8Array, options?: Options): Promise<Learner>;

export interface Learner {
  // One step of AdamW down the gradient of all sequences together. Their loss before it.
  learn(sequences: (Sequence | Correction)[]): number;

  // The answer of the model, the likeliest token each time, until it ends its turn. Text needs a
  // model with a vocabulary and a chat template that llama.cpp knows; a text that spells a control
  // token stays text.
  ask(asked: Asked, options?: AskOptions): string;

  // Before every chat that has no system message of its own; empty: none.
  setSystem(text: string): void;

  // A chat as the tokens behind which the answer follows.
  chatTokens(asked: Asked): number[];

  // importAdapter, and answers by it; answers by the base model, until the next plug. What is learnt
  // changes the adapter in either case.
  plug(gguf: ArrayBuffer | Uint8Array): void;
  unplug(): void;

  // The tokens that the model says behind the prompt, the likeliest each time, at most until the
  // window is full. The first call takes the memory that answers need.
  answer(prompt: ArrayLike<number>, options?: AnswerOptions): number[];

  // A GGUF that the server, llama.cpp and importAdapter take. f16 (true): half the size, rounded.
  exportAdapter(options?: {f16?: boolean}): Uint8Array;

  // Instead of the adapter at hand, one that nudge wrote for this model, rank and alpha.
  importAdapter(gguf: ArrayBuffer | Uint8Array): void;

  // A new adapter: the base model exactly.
  reset(): void;

  // SHA-256 of the adapter's values and shape, and of the model's bytes, in hex.
  readonly digest: string;
  readonly baseSha256: string;

  readonly memoryBytes: number;  // of the module; it never shrinks

  // Gives the memory back to the module. Nothing may be called afterwards.
  close(): void;
}
