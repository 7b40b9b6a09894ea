#include "stages/answer_records.h"

#include <algorithm>
#include <utility>

namespace nudge {
namespace {

constexpr uint8_t kRecordFormat = 2;  // 1 did not name the event
constexpr uint8_t kShownFormat = 5;   // 4 knew no rights, 3 did not name events
constexpr uint8_t kShownWithoutRights = 4;

std::string Encode(const ShownChat& shown) {
  ByteWriter writer;
  writer.U8(kShownFormat);
  writer.Names(shown.people);
  writer.Names(shown.documents);
  writer.Numbers(shown.events);
  writer.U64(shown.question_bytes);
  writer.U64(shown.chat.size());
  for (const ChatMessage& message : shown.chat) {
    writer.Text(message.role);
    writer.Text(message.text);
  }
  shown.rests_on.Write(writer);
  return writer.Take();
}

std::optional<ShownChat> Decode(std::string_view bytes) {
  ByteReader reader(bytes);
  const uint8_t format = reader.U8();
  if (format != kShownFormat && format != kShownWithoutRights) return std::nullopt;
  ShownChat shown;
  shown.people = reader.Names();
  shown.documents = reader.Names();
  shown.events = reader.Numbers();
  shown.question_bytes = reader.U64();
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    ChatMessage message;
    message.role = reader.Text();
    message.text = reader.Text();
    shown.chat.push_back(std::move(message));
  }
  if (format == kShownFormat) shown.rests_on = RestsOn::Read(reader);
  if (!reader.complete()) return std::nullopt;
  return shown;
}

// Of bytes that Encode made: whether the answer has to do with what is forgotten. Reads their first
// part, without a copy.
bool Concerns(std::string_view shown, const Forget& forget, const std::vector<EventName>& events) {
  ByteReader reader(shown);
  reader.U8();
  for (const std::string* gone : {&forget.user, &forget.document_id}) {
    for (uint64_t left = reader.U64(); left > 0; --left) {
      if (reader.View() == *gone && !gone->empty()) return true;
    }
  }
  if (events.empty()) return false;
  const std::set<EventName> held = reader.Numbers();
  return std::any_of(events.begin(), events.end(),
                     [&](EventName event) { return held.contains(event); });
}

}  // namespace

// ---- Shown answers ------------------------------------------------------------------------------

void ShownAnswers::Put(AnswerId answer, const ShownChat& shown) {
  answers_.Put(answer, Encode(shown));
}

std::optional<ShownChat> ShownAnswers::Find(AnswerId answer) const {
  const std::string* bytes = answers_.Find(answer);
  return bytes != nullptr ? Decode(*bytes) : std::nullopt;
}

void ShownAnswers::Release(AnswerId answer, std::vector<Sequence>& retired) {
  const auto references = references_.find(answer);
  ENSURE(references != references_.end());
  if (--references->second > 0) return;
  references_.erase(references);
  answers_.Erase(answer);
  retired.push_back({answer});
}

std::set<AnswerId> ShownAnswers::Concerned(const Forget& forget) const {
  const std::vector<EventName> events = forget.Events();
  std::set<AnswerId> concerned;
  for (const auto& [answer, row] : answers_.rows()) {
    if (Concerns(row.value, forget, events)) concerned.insert(concerned.end(), answer);
  }
  return concerned;
}

void ShownAnswers::Save(const std::string& tenant, Changes& changes) {
  answers_.Save(
      tenant, kKind, [](const std::string& bytes) { return bytes; }, changes);
}

Result<Nothing> ShownAnswers::Load(const Change& entry) {
  const std::optional<AnswerId> answer = NumberOfRow(entry.id);
  if (!answer || !entry.value || !Decode(*entry.value)) return UnreadableEntry(entry);
  answers_.Restore(*answer, *entry.value);
  return Nothing{};
}

// ---- Records ------------------------------------------------------------------------------------

void AnswerRecords::Remember(Sequence query, Record record, size_t most, ShownAnswers& shown,
                             std::vector<Sequence>& retired) {
  shown.Hold(record.answer);
  records_.Put(query.value, std::move(record));
  if (records_.size() <= std::max<size_t>(most, 1)) return;
  const auto& [oldest, row] = *records_.rows().begin();
  shown.Release(row.value.answer, retired);
  records_.Erase(uint64_t{oldest});
}

size_t AnswerRecords::Purge(const std::set<AnswerId>& answers, const Forget& forget,
                            ShownAnswers& shown, std::vector<Sequence>& retired) {
  const std::vector<EventName> events = forget.Events();
  std::vector<uint64_t> gone;
  for (const auto& [query, row] : records_.rows()) {
    const bool theirs = (!forget.user.empty() && row.value.user == forget.user) ||
                        std::find(events.begin(), events.end(), row.value.event) != events.end();
    if (theirs || answers.contains(row.value.answer)) gone.push_back(query);
  }
  for (const uint64_t query : gone) {
    shown.Release(records_.Find(query)->answer, retired);
    records_.Erase(query);
  }
  return gone.size();
}

void AnswerRecords::Save(const std::string& tenant, Changes& changes) {
  const auto encode = [](const Record& record) {
    ByteWriter writer;
    writer.U8(kRecordFormat);
    writer.U64(record.answer);
    writer.Text(record.user);
    for (const uint64_t number : record.cache_key) writer.U64(number);
    writer.U64(record.event);
    return writer.Take();
  };
  records_.Save(tenant, kKind, encode, changes);
}

Result<Nothing> AnswerRecords::Load(const Change& entry, ShownAnswers& shown) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const std::optional<uint64_t> query = NumberOfRow(entry.id);
  if (reader.U8() != kRecordFormat || !query) return UnreadableEntry(entry);
  Record record;
  record.answer = reader.U64();
  record.user = reader.Text();
  for (uint64_t& number : record.cache_key) number = reader.U64();
  record.event = reader.U64();
  if (!reader.complete()) return UnreadableEntry(entry);
  shown.Hold(record.answer);
  records_.Restore(*query, std::move(record));
  return Nothing{};
}

}  // namespace nudge
