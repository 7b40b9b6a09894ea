// Questions to the executor until their outcomes, answered by nudge's engine and by llama.cpp from
// the same file in turns: a table of `nudge bench answers`.
//
// Main thread only. Throws StartError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pipeline/config/config.h"
#include "stages/model/engine/packed_model.h"

namespace nudge {

struct QuestionsArguments {
  int threads = 1;              // of the executor, and of the engine
  size_t prompt_tokens = 300;   // about; with the answer within the window
  uint32_t answer_tokens = 40;  // at most
  size_t together = 8;          // tenants that ask at once, an adapter each
  int rounds = 10;              // of the rows with one question; half as many of the others
};

// Of one engine.
struct QuestionTimes {
  std::vector<double> ms;  // from each question to its outcome
  double tokens = 0;       // of an answer, in the mean
};

struct QuestionRow {
  std::string what;
  double bound_ms = 0;  // until the last outcome, if the engine's products took all of the time
  QuestionTimes own, llama;
};

// Calls `measured` with each row once it is there. False: a stop was requested; the answers and the
// lesson that were being computed then are dropped.
bool MeasureQuestions(const Config& config, const PackedModel& model,
                      const QuestionsArguments& arguments,
                      const std::function<void(const QuestionRow&)>& measured);

// The same, printed.
bool BenchQuestions(const Config& config, const PackedModel& model,
                    const QuestionsArguments& arguments);

}  // namespace nudge
