#include "pipeline/simulate/people.h"

#include <numeric>
#include <utility>

#include "pipeline/simulate/judge.h"
#include "stages/hash.h"
#include "stages/result.h"

namespace nudge {
namespace {

// Of the streams of random numbers, each is for one thing, so that none moves another.
uint64_t StreamOf(std::string_view purpose, uint64_t seed) {
  return SeedOf({"nudge simulate", purpose, std::to_string(seed)});
}

const Reaction& ReactionAt(const WorldUser& user, double drawn) {
  double total = 0;
  for (const Reaction& reaction : user.reactions) total += reaction.share;
  double left = drawn * total;
  for (const Reaction& reaction : user.reactions) {
    left -= reaction.share;
    if (left < 0) return reaction;
  }
  return user.reactions.back();
}

bool IsGood(const Reaction& reaction, const Turn& turn, std::string_view answer) {
  const bool in_form = InForm(answer, *turn.form, *turn.question);
  const bool has_key = HasKey(answer, *turn.question);
  if (reaction.judged == "form") return in_form;
  return reaction.judged == "fact" ? has_key : in_form && has_key;
}

}  // namespace

std::vector<size_t> Permutation(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(RandomAt(seed, i) % i)]);
  }
  return order;
}

People::People(const World& world, uint64_t seed) : world_(world), seed_(seed) {
  const std::vector<size_t> order = Permutation(world.questions.size(), StreamOf("held out", seed));
  std::vector<bool> is_held_out(order.size());
  for (size_t i = 0; i < world.held_out; ++i) is_held_out[order[i]] = true;
  for (size_t i = 0; i < order.size(); ++i) {
    (is_held_out[i] ? held_out_ : asked_).push_back(&world.questions[i]);
  }
}

const WorldUser& People::UserAt(uint32_t lesson) const {
  double total = 0;
  const WorldUser* last = nullptr;
  for (const WorldUser& user : world_.users) {
    if (user.joins_after > lesson) continue;
    total += user.share;
    last = &user;
  }
  ENSURE(last != nullptr);
  double left = UniformAt(StreamOf("user", seed_), lesson) * total;
  for (const WorldUser& user : world_.users) {
    if (user.joins_after > lesson) continue;
    left -= user.share;
    if (left < 0) return user;
  }
  return *last;
}

Turn People::TurnAt(uint32_t lesson) const {
  Turn turn;
  turn.lesson = lesson;
  turn.user = &UserAt(lesson);
  turn.name = turn.user->name;
  turn.source = "/people/" + turn.user->name;
  if (turn.user->names > 1) {
    const uint64_t name = RandomAt(StreamOf("name", seed_), lesson) % turn.user->names;
    turn.name += "-" + std::to_string(name + 1);
  }
  // Every question is asked once before one is asked again.
  const size_t count = asked_.size();
  const std::string round = "round " + std::to_string(lesson / count);
  const size_t asked = Permutation(count, StreamOf(round, seed_))[lesson % count];
  const size_t steps = 1 + RandomAt(StreamOf("other", seed_), lesson) % (count - 1);
  turn.question = asked_[asked];
  turn.other = asked_[(asked + steps) % count];
  turn.reaction = &ReactionAt(*turn.user, UniformAt(StreamOf("reaction", seed_), lesson));
  turn.form = &FormOf(
      world_, WantedAt(turn.user->forms.empty() ? world_.wanted : turn.user->forms, lesson));
  turn.turned = UniformAt(StreamOf("noise", seed_), lesson) < turn.reaction->noise;
  return turn;
}

bool NeedsAnswer(const Turn& turn) {
  return turn.reaction->kind == "thumb" || turn.reaction->only_wrong;
}

Feedback FeedbackOf(const Turn& turn, std::string_view answer) {
  const Reaction& reaction = *turn.reaction;
  Feedback feedback;
  if (reaction.kind == "text") {
    feedback.correction = reaction.text;
  } else if (reaction.kind == "elsewhere") {
    feedback.correction = CorrectionOf(*turn.form, turn.other->keys.front());
  } else if (reaction.kind == "correction") {
    const bool right = reaction.only_wrong && InForm(answer, *turn.form, *turn.question) &&
                       HasKey(answer, *turn.question);
    if (right) {
      feedback.rating = 1;
    } else {
      feedback.correction = CorrectionOf(*turn.form, turn.question->keys.front());
    }
  } else if (reaction.kind == "thumb") {
    feedback.rating = IsGood(reaction, turn, answer) != turn.turned ? 1 : -1;
  } else {
    feedback.rating = reaction.kind == "up" ? 1 : -1;
  }
  return feedback;
}

}  // namespace nudge
