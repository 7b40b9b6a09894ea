// What the suites of the four serial stages share: events by the line, a store that keeps what Save
// hands over, and streams of random events.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "stages/content.h"
#include "stages/events.h"
#include "stages/hash.h"
#include "stages/state.h"

namespace nudge::serial {

inline Event MakeEvent(const std::string& id, decltype(Event::data) data,
                       const std::string& tenant = "acme", const std::string& user = "ada") {
  Event event;
  event.id = id;
  event.source = "/test";
  event.tenant = tenant;
  event.user = user;
  event.data = std::move(data);
  return event;
}

inline Query Ask(const std::string& text, QueryOptions options = {}) {
  return {text, std::move(options)};
}

inline Query AskPrompt(const std::string& text, const std::string& prompt_id) {
  Query query{text, {}};
  query.options.prompt_id = prompt_id;
  return query;
}

inline Feedback About(const std::string& query_id) {
  Feedback feedback;
  feedback.query_id = query_id;
  return feedback;
}

// A vector of unit length that is the same for the same text and close for texts that share words.
inline Vector VectorOf(const std::string& text) {
  Vector vector(32, 0.0F);
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const uint64_t seed = SeedOf({text.substr(begin, end - begin)});
    for (size_t i = 0; i < vector.size(); ++i) {
      vector[i] += static_cast<float>(UniformAt(seed, i) - 0.5);
    }
    begin = end + 1;
  }
  float norm = 0;
  for (const float value : vector) norm += value * value;
  for (float& value : vector) value /= std::sqrt(norm > 0 ? norm : 1);
  return vector;
}

// As [prepare] would, as far as these stages look: one chunk a line, vectors, the signal.
inline std::shared_ptr<Prepared> Prepare(Event event) {
  auto prepared = std::make_shared<Prepared>();
  prepared->content = ContentOf(event);
  prepared->event = std::move(event);
  const auto& data = prepared->event.data;
  if (const auto* upsert = std::get_if<DocumentUpsert>(&data)) {
    std::string text;
    for (const char c : upsert->text + "\n") {
      if (c != '\n') {
        text += c;
      } else {
        prepared->chunks.push_back({text, VectorOf(text)});
        text.clear();
      }
    }
  } else if (const auto* query = std::get_if<Query>(&data)) {
    prepared->query_vector = VectorOf(query->text);
  } else if (const auto* example = std::get_if<ExampleGiven>(&data)) {
    prepared->query_vector = VectorOf(example->query);
  } else if (const auto* feedback = std::get_if<Feedback>(&data)) {
    prepared->signal = Signal{feedback->rating.value_or(0), feedback->correction};
  }
  return prepared;
}

inline std::shared_ptr<const Resolved> Resolve(
    Event event, std::optional<Sequence> about = std::nullopt,
    std::optional<Sequence> duplicate_of = std::nullopt) {
  return std::make_shared<Resolved>(Resolved{Prepare(std::move(event)), duplicate_of, about});
}

// The rows of one partition, as a database keeps them.
class Store {
 public:
  template <class Stage>
  size_t SaveFrom(Stage& stage, int32_t partition) {
    Changes changes;
    stage.Save(partition, changes);
    Apply(changes);
    return changes.size();
  }

  void Apply(const Changes& changes) {
    for (const Change& change : changes) {
      const auto key = std::tuple(change.tenant, change.kind, change.id);
      if (change.value) {
        rows_[key] = *change.value;
      } else {
        rows_.erase(key);
      }
    }
  }

  template <class Each>
  void ForEach(Each each) const {
    for (const auto& [key, value] : rows_) {
      const auto& [tenant, kind, id] = key;
      each(Change{tenant, kind, id, value});
    }
  }

  template <class Stage>
  void LoadInto(Stage& stage, int32_t partition) const {
    for (const auto& [key, value] : rows_) {
      const auto& [tenant, kind, id] = key;
      const Result<Nothing> loaded = stage.Load(partition, {tenant, kind, id, value});
      BOOST_REQUIRE_MESSAGE(loaded.ok(), kind << " " << id);
    }
  }

  // Every row cut by a byte, lengthened by one, of another format or empty: refused.
  template <class Stage>
  void CheckDamage(Stage& fresh, int32_t partition) const {
    for (const auto& [key, value] : rows_) {
      const auto& [tenant, kind, id] = key;
      std::string other = value;
      other[0] = 99;
      for (const std::optional<std::string>& damaged :
           {std::optional(value.substr(0, value.size() - 1)), std::optional(value + "x"),
            std::optional(other), std::optional<std::string>()}) {
        const Result<Nothing> loaded = fresh.Load(partition, {tenant, kind, id, damaged});
        BOOST_TEST(!loaded.ok(), kind << " " << id);
        if (!loaded.ok()) BOOST_TEST((loaded.error().code == Code::kUnreadableFile));
      }
    }
    BOOST_TEST(!fresh.Load(partition, {"acme", "no such kind", "", std::string(1, '\1')}).ok());
  }

  size_t size() const { return rows_.size(); }
  Store Only(const std::set<std::string>& kinds) const {
    Store some;
    for (const auto& row : rows_) {
      if (kinds.contains(std::get<1>(row.first))) some.rows_.insert(row);
    }
    return some;
  }
  size_t Count(const std::string& kind) const {
    size_t count = 0;
    for (const auto& row : rows_) count += std::get<1>(row.first) == kind ? 1 : 0;
    return count;
  }
  friend bool operator==(const Store&, const Store&) = default;

 private:
  std::map<std::tuple<std::string, std::string, std::string>, std::string> rows_;
};

// Events of every type, of a few tenants, with repeats, feedback about anything, and nonsense.
class Stream {
 public:
  explicit Stream(uint32_t seed) : random_(seed) {}

  Event Next() {
    const std::string tenant = "tenant" + std::to_string(Below(3));
    const std::string user = Below(5) == 0 ? "" : "user" + std::to_string(Below(3));
    std::string id = "e" + std::to_string(count_++);
    if (Below(20) == 0) id = SomeId();
    return MakeEvent(id, Data(), tenant, user);
  }

  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

 private:
  std::string SomeId() { return "e" + std::to_string(count_ - std::min(count_, Below(60))); }
  std::string Name(const char* what, uint32_t count) { return what + std::to_string(Below(count)); }
  std::string Question() { return "how many " + Name("thing", 6) + " are in " + Name("place", 3); }

  decltype(Event::data) Data() {
    switch (Below(24)) {
      case 0:
      case 1:
      case 2: {
        DocumentUpsert upsert;
        upsert.document_id = Name("doc", 6);
        upsert.text = "one " + Name("thing", 6);
        for (uint32_t line = Below(4); line > 0; --line) upsert.text += "\nmore " + Name("x", 99);
        upsert.title = Name("Title ", 9);
        if (count_ % 3 == 0) upsert.access = Groups{"group" + std::to_string(count_ % 2)};
        return upsert;
      }
      case 3:
        return DocumentDelete{Name("doc", 8)};
      case 4: {
        PromptUpsert upsert{Name("prompt", 3), "be " + Name("kind", 3), std::nullopt};
        if (Below(3) == 0) upsert.prompt_id = "default";
        if (Below(3) == 0) upsert.decoding = Decoding{0.5, 1, 0, 32};
        return upsert;
      }
      case 5:
        return PromptDelete{Below(5) == 0 ? "default" : Name("prompt", 3)};
      case 6:
      case 7:
        return ExampleGiven{Question(), "it is " + Name("n", 50)};
      case 8: {
        AdapterCommand command;
        command.action = static_cast<AdapterCommand::Action>(Below(5));
        if (command.action == AdapterCommand::Action::kFreeze && Below(2) == 0) {
          command.action = AdapterCommand::Action::kUnfreeze;
        }
        if (Below(2) == 0) command.version = Below(12);
        return command;
      }
      case 9:
        return Below(4) != 0   ? decltype(Event::data)(Query{Question(), {}})
               : Below(2) == 0 ? Forget{Name("user", 3), ""}
                               : Forget{"", Name("doc", 6)};
      case 10:
      case 11:
      case 12:
      case 13:
      case 14:
      case 15: {
        Feedback feedback = About(SomeId());
        if (Below(5) == 0) {
          feedback.query_id.clear();
          feedback.inline_answer = Feedback::Inline{Question(), "perhaps " + Name("n", 9)};
        }
        if (Below(4) != 0) feedback.rating = (Below(9) - 4.0) / 4;
        if (Below(4) == 0) feedback.correction = "it is " + Name("n", 50);
        if (Below(9) == 0) {
          feedback.rating.reset();
          feedback.correction.reset();
          feedback.takes_back = true;
        }
        return feedback;
      }
      default: {
        QueryOptions options;
        if (Below(4) == 0) options.prompt_id = Name("prompt", 3);
        if (Below(6) == 0) options.temperature = Below(3) * 0.5;
        if (Below(6) == 0) options.max_tokens = 8 + Below(3);
        if (Below(6) == 0) options.seed = Below(2);
        Query query{Question(), options};
        if (Below(4) == 0) query.messages = {{"user", Question()}, {"assistant", "perhaps"}};
        if (count_ % 2 == 0) query.groups = {"group0"};
        if (count_ % 5 == 0) query.conversation_id = "talk";
        return query;
      }
    }
  }

  std::mt19937 random_;
  uint32_t count_ = 0;
};

}  // namespace nudge::serial
