// Events for benchmarks and tests of the engine: every type, many tenants, a function of seed and
// number alone.
//
//   number -> [EventGenerator] -> one line of JSON; [GeneratedSource] -> Record, one partition
//
// One thread at a time.
#pragma once

#include <string>
#include <vector>

#include "connectors/codec.h"
#include "connectors/source.h"
#include "stages/hash.h"

namespace nudge {

struct GeneratorOptions {
  uint64_t seed = 1;
  size_t events = 300;
  size_t tenants = 4;
  size_t documents = 20;    // ids per tenant that upserts and deletes choose from
  bool with_faults = true;  // malformed lines, duplicates, feedback about nothing
  // Short documents are upserted, nothing else: the nearest to what other stream processors are
  // measured with (parse, replace a value under its key, one output for each event).
  bool only_documents = false;
  bool adapters_by_user = false;  // commands name users, whose adapters they act on
};

class EventGenerator {
 public:
  explicit EventGenerator(GeneratorOptions options) : options_(options) {
    last_queries_.resize(options.tenants);
  }

  // Line `number`; call with 0, 1, 2, ...
  std::string Line(uint64_t number) {
    counter_ = number * 64;
    const size_t tenant = Pick(options_.tenants);
    Event event;
    event.source = "test";
    event.id = "e" + std::to_string(number);
    event.tenant = "tenant-" + std::to_string(tenant);
    event.user = "user-" + std::to_string(Pick(3));
    const size_t dice = options_.only_documents ? 10 : Pick(100);
    if (options_.with_faults && dice < 4) return Fault(dice, std::move(event), number);
    event.data = Data(dice, tenant, event.id);
    return EncodeEvent(event);
  }

  std::vector<std::string> All() {
    std::vector<std::string> lines;
    for (uint64_t number = 0; number < options_.events; ++number) lines.push_back(Line(number));
    return lines;
  }

 private:
  size_t Pick(size_t count) { return RandomAt(options_.seed, counter_++) % count; }

  std::string Words(size_t count) {
    static const char* const kWords[] = {"harbour", "pine", "tent",   "stove",  "lamp",  "rope",
                                         "boat",    "map",  "return", "refund", "order", "parcel"};
    std::string text;
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) text += ' ';
      text += kWords[Pick(12)];
    }
    return text;
  }

  std::string Fault(size_t dice, Event event, uint64_t number) {
    if (dice == 0) return "{\"specversion\":\"1.0\",\"id\":\"" + event.id;
    if (dice == 1) {
      event.data = Feedback{"never-asked", "", {}, 1.0, {}, {}};
      return EncodeEvent(event);
    }
    if (dice == 2) {
      event.id = "e" + std::to_string(number / 2);  // often one that was there
      event.data = Query{Words(3), {}};
      return EncodeEvent(event);
    }
    event.data = Query{"x", {}};
    std::string line = EncodeEvent(event);
    line.replace(line.find("nudge.query"), 11, "nudge.quary");
    return line;
  }

  decltype(Event::data) Data(size_t dice, size_t tenant, const std::string& id) {
    std::string& last = last_queries_[tenant];
    if (dice < 30) {
      return DocumentUpsert{
          "doc-" + std::to_string(Pick(options_.documents)), Words(12) + ".", Words(2), {}};
    }
    if (dice < 33) return DocumentDelete{"doc-" + std::to_string(Pick(options_.documents))};
    if (dice < 70 || last.empty()) {
      last = id;
      QueryOptions query_options;
      if (dice == 69) query_options.seed = 7;
      return Query{Words(2), query_options};
    }
    if (dice < 85) return Feedback{last, "", {}, Pick(2) == 0 ? 1.0 : -1.0, {}, {}};
    if (dice < 92) return Feedback{last, "", {}, {}, "In short: " + Words(4) + ".", {}};
    if (dice < 94) return ExampleGiven{Words(3), Words(6)};
    if (dice == 94) return PromptUpsert{"p" + std::to_string(Pick(3)), "Say " + Words(2), {}};
    if (dice == 95) return PromptDelete{"p" + std::to_string(Pick(3))};
    if (dice < 98) {
      const AdapterCommand::Action actions[] = {
          AdapterCommand::Action::kRollback, AdapterCommand::Action::kReset,
          AdapterCommand::Action::kFreeze, AdapterCommand::Action::kUnfreeze,
          AdapterCommand::Action::kUnfreeze};
      AdapterCommand command{actions[Pick(5)], {}, "", "", ""};
      const bool is_of_one = command.action == AdapterCommand::Action::kRollback ||
                             (command.action == AdapterCommand::Action::kReset && Pick(2) == 0);
      if (options_.adapters_by_user && is_of_one) command.user = "user-" + std::to_string(Pick(3));
      return command;
    }
    if (dice == 98) return Forget{"user-" + std::to_string(Pick(3)), ""};
    return Forget{"", "doc-" + std::to_string(Pick(options_.documents))};
  }

  const GeneratorOptions options_;
  uint64_t counter_ = 0;
  std::vector<std::string> last_queries_;
};

// Makes its lines as they are asked for, so that the input does not lie in memory: partition 0,
// which is assigned with the first. Seek, Pause and Resume do nothing.
class GeneratedSource final : public Source {
 public:
  explicit GeneratedSource(GeneratorOptions options)
      : generator_(options), events_(options.events) {}

  void Listen(PartitionListener& listener) override { listener_ = &listener; }
  Result<Pull> Next(Record& record, std::chrono::milliseconds) override {
    constexpr int32_t kPartition = 0;
    if (next_ == 0 && listener_ != nullptr) {
      const Result<Nothing> assigned = listener_->Assigned({&kPartition, 1});
      if (!assigned.ok()) return assigned.error();
    }
    if (next_ == events_) return Pull::kEnd;
    record = {kPartition, static_cast<int64_t>(next_), "", generator_.Line(next_), {}};
    ++next_;
    return Pull::kRecord;
  }
  Result<Nothing> Seek(int32_t, int64_t) override { return Nothing{}; }
  void Pause(int32_t) override {}
  void Resume(int32_t) override {}

 private:
  EventGenerator generator_;
  const size_t events_;
  PartitionListener* listener_ = nullptr;
  uint64_t next_ = 0;
};

}  // namespace nudge
