// WebSession and ModelText as functions that JavaScript calls: numbers, and places in the module's
// memory.
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

// Takes the model's bytes, which nudge_allocate gave, in any case.
NudgeSession* nudge_open(void* model, size_t bytes, uint32_t step_tokens_max, uint32_t rank,
                         float alpha, uint32_t seed, uint32_t window_tokens);
void nudge_close(NudgeSession* session);

// One more sequence for the next step. `objective`: 0 cross-entropy, 1 down, 2 anchor (trainer.h).
int nudge_add(NudgeSession* session, const int32_t* tokens, size_t count, size_t completion_begin,
              uint32_t objective, float weight, float keep, float reach_floor);
// Learns what was added since the last call, and forgets it.
int nudge_learn(NudgeSession* session);
double nudge_loss(const NudgeSession* session);  // of the last step, before it

// Begins an answer behind the prompt; `plugged`: by the adapter (1) or the base model (0).
int nudge_ask(NudgeSession* session, const int32_t* prompt, size_t count, int plugged);
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
void nudge_reset(NudgeSession* session);

// Hex, 64 digits.
const char* nudge_digest(NudgeSession* session);
const char* nudge_base_sha256(const NudgeSession* session);

// ModelText. Reads the model's bytes and keeps none of them.
NudgeText* nudge_text_open(const char* model, size_t bytes);
void nudge_text_close(NudgeText* text);
// One more message of the next chat: its role, 0 system, 1 user, 2 assistant, and UTF-8.
int nudge_text_add(NudgeText* text, uint32_t role, const char* message, size_t bytes);
// As tokens: the chat that was added since the last call, behind which an answer follows, and an
// answer with the end of its turn.
int nudge_text_chat(NudgeText* text);
int nudge_text_answer(NudgeText* text, const char* answer, size_t bytes);
const int32_t* nudge_text_tokens(const NudgeText* text);
size_t nudge_text_token_count(const NudgeText* text);
// Whether an answer ends before this token: 1 or 0.
int nudge_text_ends(const NudgeText* text, int32_t token);
// The bytes that tokens spell.
int nudge_text_spell(NudgeText* text, const int32_t* tokens, size_t count);
const char* nudge_text_bytes(const NudgeText* text);
size_t nudge_text_byte_count(const NudgeText* text);
}
