#include "connectors/web/module/exports.h"

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "connectors/web/module/calls.h"

using nudge::LastError;
using nudge::Tell;
using nudge::Try;

namespace {

nudge::ParallelFor SerialWithBeats() {
  return [serial = nudge::SerialFor()](int parts, const std::function<void(int)>& body) {
    if (nudge_beat() != 0) throw std::runtime_error("the lesson was stopped: nothing has changed");
    serial(parts, body);
  };
}

}  // namespace

void* nudge_allocate(size_t bytes) {
  void* memory = nullptr;
  Try([&] {
    memory = nudge::AllocateAligned(bytes);
    return true;
  });
  return memory;
}

void nudge_free(void* memory) {
  nudge::FreeAligned{}(memory);
}

const char* nudge_error() {
  return LastError().c_str();
}

NudgeSession* nudge_open(void* model, size_t bytes, uint32_t step_tokens_max, uint32_t rank,
                         float alpha, uint32_t seed, uint32_t window_tokens, double learning_rate,
                         double warmup_steps) {
  std::unique_ptr<NudgeSession> opened;
  Try([&] {
    const std::shared_ptr<const void> kept(model, nudge::FreeAligned{});
    nudge::WebOptions options{step_tokens_max, rank, alpha, seed, window_tokens, {}};
    options.steps.learning_rate = learning_rate;
    options.steps.warmup_steps = warmup_steps;
    auto session = nudge::WebSession::Load(kept, bytes, options, SerialWithBeats());
    if (!session.ok()) return Tell(session.error());
    opened = std::make_unique<NudgeSession>();
    opened->session = std::move(session).value();
    return true;
  });
  return opened.release();
}

void nudge_close(NudgeSession* session) {
  delete session;
}

int nudge_add(NudgeSession* session, const int32_t* tokens, size_t count, size_t completion_begin,
              uint32_t objective, float weight, float keep, float reach_floor) {
  return Try([&] {
    if (objective > static_cast<uint32_t>(nudge::Objective::kAnchor)) {
      return Tell({nudge::Code::kModelFailed, "an objective that is none", "take 0, 1 or 2"});
    }
    nudge::TrainSequence sequence;
    sequence.tokens.assign(tokens, tokens + count);
    sequence.completion_begin = completion_begin;
    sequence.objective = static_cast<nudge::Objective>(objective);
    sequence.weight = weight;
    sequence.keep = keep;
    sequence.reach_floor = reach_floor;
    session->lesson.push_back(std::move(sequence));
    return true;
  });
}

int nudge_learn(NudgeSession* session) {
  return Try([&] {
    const std::vector<nudge::TrainSequence> lesson = std::exchange(session->lesson, {});
    const auto losses = session->session->Learn(lesson);
    if (!losses.ok()) return Tell(losses.error());
    session->loss = losses->total;
    return true;
  });
}

double nudge_loss(const NudgeSession* session) {
  return session->loss;
}

int nudge_ask(NudgeSession* session, const int32_t* prompt, size_t count, int plugged) {
  return Try([&] {
    const auto begun = session->session->Ask({prompt, count}, plugged != 0);
    return begun.ok() || Tell(begun.error());
  });
}

int nudge_read(NudgeSession* session) {
  int told = 0;
  Try([&] {
    const auto more = session->session->Read();
    if (!more.ok()) return Tell(more.error());
    told = *more ? 1 : 2;
    return true;
  });
  return told;
}

int nudge_next(NudgeSession* session) {
  return Try([&] {
    const auto token = session->session->Next();
    if (!token.ok()) return Tell(token.error());
    session->token = token->value_or(-1);
    session->logits = session->session->logits();
    return true;
  });
}

int32_t nudge_token(const NudgeSession* session) {
  return session->token;
}

const float* nudge_logits(const NudgeSession* session) {
  return session->logits.data();
}

size_t nudge_logit_count(const NudgeSession* session) {
  return session->logits.size();
}

int nudge_export(NudgeSession* session, int as_f16) {
  return Try([&] {
    auto bytes = session->session->Export(as_f16 != 0 ? nudge::AdapterPrecision::kF16
                                                      : nudge::AdapterPrecision::kF32);
    if (!bytes.ok()) return Tell(bytes.error());
    session->bytes = *std::move(bytes);
    return true;
  });
}

const char* nudge_bytes(const NudgeSession* session) {
  return session->bytes.data();
}

size_t nudge_byte_count(const NudgeSession* session) {
  return session->bytes.size();
}

int nudge_import(NudgeSession* session, const char* gguf, size_t bytes) {
  return Try([&] {
    const auto imported = session->session->Import({gguf, bytes});
    return imported.ok() || Tell(imported.error());
  });
}

int nudge_export_lessons(NudgeSession* session) {
  return Try([&] {
    session->bytes = session->session->ExportLessons();
    return true;
  });
}

int nudge_save(NudgeSession* session) {
  return Try([&] {
    session->bytes = session->session->Save();
    return true;
  });
}

int nudge_restore(NudgeSession* session, const char* saved, size_t bytes) {
  return Try([&] {
    const auto restored = session->session->Restore({saved, bytes});
    return restored.ok() || Tell(restored.error());
  });
}

void nudge_reset(NudgeSession* session) {
  session->session->Reset();
}

const char* nudge_digest(NudgeSession* session) {
  session->digest = session->session->digest();
  return session->digest.c_str();
}

const char* nudge_base_sha256(const NudgeSession* session) {
  return session->session->base_sha256().c_str();
}
