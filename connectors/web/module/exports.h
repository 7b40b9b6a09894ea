// WebSession, ModelText and WebChat as functions that JavaScript calls: numbers, and places in the
// module's memory.
//
// A call that fails gives 0 or null and leaves a sentence, which nudge_error tells until the next
// one fails. What a call returns the place of stays until the session's next call. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

struct NudgeSession;
struct NudgeText;

extern "C" {

// On a boundary of 64; null where there is no memory.
void* nudge_allocate(size_t bytes);
void nudge_free(void* memory);

const char* nudge_error();

// JavaScript's (beat.js): called between the parts of a lesson, some thousand times in one. Not 0
// ends the lesson, as if it had not begun.
int nudge_beat();

// Takes the model's bytes, which nudge_allocate gave, in any case.
NudgeSession* nudge_open(void* model, size_t bytes, uint32_t step_tokens_max, uint32_t rank,
                         float alpha, uint32_t seed, uint32_t window_tokens, double learning_rate,
                         double warmup_steps);
void nudge_close(NudgeSession* session);

// One more sequence for the next step. `objective`: 0 cross-entropy, 1 down, 2 anchor (trainer.h).
int nudge_add(NudgeSession* session, const int32_t* tokens, size_t count, size_t completion_begin,
              uint32_t objective, float weight, float keep, float reach_floor);
// Learns what was added since the last call, and forgets it.
int nudge_learn(NudgeSession* session);
double nudge_loss(const NudgeSession* session);  // of the last step, before it

// Begins an answer behind the prompt; `plugged`: by the adapter (1) or the base model (0).
int nudge_ask(NudgeSession* session, const int32_t* prompt, size_t count, int plugged);
// Reads a part of the prompt: 1, there is more; 2, all is read.
int nudge_read(NudgeSession* session);
// Draws the likeliest token, which nudge_token tells: -1 once the window is full. What its logits
// are, as many as the vocabulary has tokens, nudge_logits tells.
int nudge_next(NudgeSession* session);
int32_t nudge_token(const NudgeSession* session);
const float* nudge_logits(const NudgeSession* session);
size_t nudge_logit_count(const NudgeSession* session);

int nudge_export(NudgeSession* session, int as_f16);
const char* nudge_bytes(const NudgeSession* session);  // of the last export
size_t nudge_byte_count(const NudgeSession* session);
int nudge_import(NudgeSession* session, const char* gguf, size_t bytes);
// The log of the lessons: nudge_bytes has it.
int nudge_export_lessons(NudgeSession* session);
// All that lessons go on from: nudge_bytes has it.
int nudge_save(NudgeSession* session);
int nudge_restore(NudgeSession* session, const char* saved, size_t bytes);
void nudge_reset(NudgeSession* session);

// Hex, 64 digits.
const char* nudge_digest(NudgeSession* session);
const char* nudge_base_sha256(const NudgeSession* session);

// The words of languages that are written without spaces, of which WebChat else takes a run for one
// word: the file nudge_dictionaries.dat. Once, before the first text is opened; keeps the bytes,
// which nudge_allocate gave.
int nudge_set_dictionaries(void* bytes);

// ModelText, and WebChat over it. Reads the model's bytes and keeps none of them.
NudgeText* nudge_text_open(const char* model, size_t bytes, uint32_t window_tokens,
                           uint32_t step_tokens_max, uint32_t passages);
void nudge_text_close(NudgeText* text);

// One more text for the next call below, which says what it takes; it takes all, also when it
// fails.
int nudge_text_put(NudgeText* text, const char* bytes, size_t count);
// What such a call leaves: texts, and token ids.
size_t nudge_text_told_count(const NudgeText* text);
const char* nudge_text_told(const NudgeText* text, size_t index);
size_t nudge_text_told_bytes(const NudgeText* text, size_t index);
const int32_t* nudge_text_tokens(const NudgeText* text);
size_t nudge_text_token_count(const NudgeText* text);

// Takes a role and a text for each message: the tokens behind which an answer follows.
int nudge_text_chat(NudgeText* text);
// Takes an answer: its tokens, with the end of its turn.
int nudge_text_answer(NudgeText* text);
// Whether an answer ends before this token: 1 or 0.
int nudge_text_ends(const NudgeText* text, int32_t token);
// Tells the bytes that tokens spell.
int nudge_text_spell(NudgeText* text, const int32_t* tokens, size_t count);

// Takes name, title and text. Tells how many passages.
int nudge_text_add_document(NudgeText* text);
// Takes a name. Tells how many passages went.
int nudge_text_remove_document(NudgeText* text);
// Takes a question. Tells of each passage: document, version, number, title, text, score.
int nudge_text_search(NudgeText* text);
int nudge_text_set_system(NudgeText* text);   // takes it
int nudge_text_add_example(NudgeText* text);  // takes question and answer
// Takes role and text of each earlier turn, then the question. Tokens of the prompt; tells the
// answer's number, then of the passages as nudge_text_search.
int nudge_text_ask(NudgeText* text, uint32_t tokens_max);
// Takes what was shown as that answer, then perhaps a correction; rating: -1..1, 0 for none. One
// lesson. Tells the verdict; nats per token of the text before and, where a step was taken, behind;
// how many tokens went through the model, and how many were left out.
int nudge_text_teach(NudgeText* text, NudgeSession* session, double answer, double rating);
// Takes question and answer of each neutral text (WebSession::SetAnchors).
int nudge_text_set_anchors(NudgeText* text, NudgeSession* session);
// Tells documents, examples and system prompt as bytes; takes them.
int nudge_text_save(NudgeText* text);
int nudge_text_load(NudgeText* text);
}
