// What nudge.js calls in its worker, for a worker or a program of one's own (node): the same calls,
// which block their thread, and token ids. Whatever throws a NudgeError has left everything as it
// was.
import type {Answer, AskOptions, Feedback, Lesson, ModelOptions, Passage} from './nudge.js';

export class NudgeError extends Error {}

export interface OpenOptions extends ModelOptions {
  dictionaries?: ArrayBuffer | Uint8Array;
  wasmBinary?: BufferSource;  // where the module is not to be fetched from beside its script
}

export interface Sequence {
  tokens: ArrayLike<number>;  // prompt, then completion
  completionBegin: number;    // 1 to tokens.length - 1
  objective?: 'crossEntropy' | 'down' | 'anchor';
  weight?: number;      // 1
  keep?: number;        // as adapt.keep_lambda, 0
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

export interface AnswerOptions {
  tokensMax?: number;  // 128
  ends?: number[];     // tokens that end the answer, and are left out
  plugged?: boolean;
  // Called for each token at once. The logits are the module's memory: copy what is to stay.
  onToken?: (token: number, logits: Float32Array) => void;
}

// Copies the model.
export function open(model: ArrayBuffer | Uint8Array, options?: OpenOptions): Promise<Learner>;

export interface Learner {
  // Text needs a model with a vocabulary and a chat template that llama.cpp knows; a text that
  // spells a control token stays text.
  ask(question: string, options?: AskOptions & {onText?: (text: string) => void}): Answer;
  // Yields each piece, and '' wherever there is time for other things; returns the answer.
  asking(question: string, options?: AskOptions): Generator<string, Answer>;
  teach(answer: number, feedback: Feedback): Lesson;
  setSystem(text: string): void;
  addExample(question: string, answer: string): void;
  addDocument(id: string, text: string, title?: string): number;
  removeDocument(id: string): number;
  search(question: string): Passage[];
  setAnchors(anchors: {question: string; answer: string}[]): void;
  chatTokens(asked: Asked): number[];  // behind which the answer follows

  // One step of AdamW down the gradient of all sequences together, and nothing else of the server's
  // rule. Their loss before it.
  learn(sequences: (Sequence | Correction)[]): number;
  // The tokens that the model says behind the prompt, the likeliest each time, at most until the
  // window is full. The first call takes the memory that answers need.
  answer(prompt: ArrayLike<number>, options?: AnswerOptions): number[];

  plug(gguf: ArrayBuffer | Uint8Array): void;
  unplug(): void;
  exportAdapter(options?: {f16?: boolean}): Uint8Array;
  exportLessons(): Uint8Array;
  importAdapter(gguf: ArrayBuffer | Uint8Array): void;
  reset(): void;
  save(): {lessons: Uint8Array; texts: Uint8Array};
  restore(saved: {lessons: Uint8Array; texts: Uint8Array}): void;

  // Called between the parts of a lesson, some thousand times in one; true ends the lesson.
  set onBeat(beat: () => boolean);

  readonly plugged: boolean;
  readonly digest: string;
  readonly baseSha256: string;
  readonly memoryBytes: number;

  // Gives the memory back to the module. Nothing may be called afterwards.
  close(): void;
}
