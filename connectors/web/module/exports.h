// WebSession as functions that JavaScript calls: numbers, and places in the module's memory.
//
// A call that fails gives 0 or null and leaves a sentence, which nudge_error tells until the next
// one fails. What a call returns the place of stays until the session's next call. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

struct NudgeSession;

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

// The tokens that the model says next, greedily; with `plugged` other than 0 by the adapter.
int nudge_answer(NudgeSession* session, const int32_t* prompt, size_t count, const int32_t* ends,
                 size_t end_count, size_t tokens_max, int plugged);
const int32_t* nudge_tokens(const NudgeSession* session);  // of the last answer
size_t nudge_token_count(const NudgeSession* session);

int nudge_export(NudgeSession* session, int as_f16);
const char* nudge_bytes(const NudgeSession* session);  // of the last export
size_t nudge_byte_count(const NudgeSession* session);
int nudge_import(NudgeSession* session, const char* gguf, size_t bytes);
void nudge_reset(NudgeSession* session);

// Hex, 64 digits.
const char* nudge_digest(NudgeSession* session);
const char* nudge_base_sha256(const NudgeSession* session);
}
