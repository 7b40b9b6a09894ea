// The held-out questions: what an adapter learnt, measured on questions that nobody ever corrected.
//
//   file -> [ReadHeldOut] -> HeldOut;   HeldOut + Backend + adapters -> [Measure] -> HeldOutScore
//
// Before and after a run, on the main thread, while nothing else uses the backend.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/chat.h"
#include "stages/events.h"
#include "stages/model/backend.h"
#include "stages/result.h"

namespace nudge {

struct HeldOut {
  struct Question {
    TenantId tenant;
    std::string query;
    std::string answer;     // the ideal one: in style, with the fact
    std::string fact;       // what a right answer contains, letter case aside
    bool showcase = false;  // shown before and after in the summary
  };
  std::string style_name;
  std::string style_regex;  // ICU's syntax, over characters; found anywhere unless anchored
  std::vector<Question> questions;
};

// JSON a line: first {"style":{"name","regex"}}, then {"tenant","query","answer","fact"} each, with
// "showcase" if wanted. Throws StartError with file, line and fault: what is no such JSON, a regex
// that does not compile, an answer that is itself no hit, no question, over 10,000 of them.
HeldOut ReadHeldOut(const std::string& path);

struct HeldOutScore {
  double nll_per_token = 0;  // of the ideal answers, nats: the mean over questions
  // Of `answers`; 0 where none were asked for.
  double style_rate = 0;  // share that matches the regex
  double fact_rate = 0;   // share that contains the fact, in any words
  double hit_rate = 0;    // share that matches the regex and contains the fact
  size_t questions = 0;
  std::vector<std::string> answers;  // in the order of the questions; may be empty
};

struct MeasureOptions {
  Decoding decoding;  // drawn greedily whatever its temperature
  bool with_generation = true;
  size_t slots = 1;                 // 1..: that many threads generate, on slots 0, 1, ...
  std::function<bool()> cancelled;  // polled between tokens, on all threads; may be empty
};

using ChatOf = std::function<std::vector<ChatMessage>(const HeldOut::Question&)>;
// nullptr is the base. What it points to must live until the measuring is done.
using AdapterOf = std::function<const AdapterVersion*(const TenantId&)>;

// The backend's first error; kUnsupportedModel, and at once, if it has no likelihoods. `chat_of`
// and `adapter_of` are called on the calling thread, in the order of the questions.
Result<HeldOutScore> Measure(const HeldOut& held_out, Backend& backend, const ChatOf& chat_of,
                             const AdapterOf& adapter_of, const MeasureOptions& options);

// The generating half of Measure: the answers alone, the same for any number of slots. After an
// error of the backend no further question is begun.
Result<std::vector<std::string>> AnswerHeldOut(const HeldOut& held_out, Backend& backend,
                                               const ChatOf& chat_of, const AdapterOf& adapter_of,
                                               const MeasureOptions& options);

// Which answers are right. The regex must be one that ReadHeldOut took; texts of any content. An
// answer on which the regex takes too long is out of style.
std::vector<bool> InStyle(const HeldOut& held_out, const std::vector<std::string>& answers);
bool ContainsFact(const HeldOut::Question& question, std::string_view answer);

}  // namespace nudge
