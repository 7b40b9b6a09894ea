// What a Prompt saves and loads.
#include <utility>

#include "stages/decoding_codec.h"
#include "stages/prompt.h"

namespace nudge {
namespace {

// 4 knew no rights, 3 counted no rewards, 2 named no events, 1 one user of an example alone.
constexpr uint8_t kFormat = 5;
constexpr uint8_t kFormatWithoutRights = 4;
constexpr char kPromptKind[] = "prompt";
constexpr char kDeletedKind[] = "prompt_deleted";
constexpr char kExampleKind[] = "few_shot";
constexpr char kDecisionKind[] = "prompt_decision";
constexpr char kCreditKind[] = "prompt_credit";
constexpr char kRestrictedKind[] = "prompt_restricted";

}  // namespace

void Prompt::Save(int32_t partition, Changes& changes) {
  const auto encode_prompt = [](const Text& text) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U32(text.version);
    writer.Text(text.system);
    writer.U8(text.decoding.has_value());
    WriteDecoding(writer, text.decoding.value_or(Decoding{}));
    writer.U8(text.configured);
    writer.U64(text.arms.size());
    for (const Arm& arm : text.arms) {
      writer.Text(arm.preset.name);
      writer.F64(arm.weight);
      writer.F64(arm.sum);
      writer.U64(arm.rewards);
    }
    return writer.Take();
  };
  const auto encode_example = [](const Example& example) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.Text(example.question);
    writer.Text(example.answer);
    writer.Names(example.people);
    writer.Numbers(example.events);
    example.rests_on.Write(writer);
    writer.Floats(example.vector);
    writer.F64(example.weight);
    writer.F64(example.sum);
    return writer.Take();
  };
  const auto encode_decision = [](const Decision& decision) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.Text(decision.prompt_id);
    writer.U32(decision.prompt_version);
    writer.Text(decision.arm);
    writer.U64(decision.shots.size());
    for (const uint64_t shot : decision.shots) writer.U64(shot);
    writer.Text(decision.user);
    writer.U64(decision.event);
    writer.Text(decision.question);
    writer.Floats(decision.vector);
    decision.rests_on.Write(writer);
    return writer.Take();
  };
  const auto encode_credit = [](const Credit& credit) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.F64(credit.reward);
    writer.U64(credit.number);
    return writer.Take();
  };
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    tenant.prompts.Save(name, kPromptKind, encode_prompt, changes);
    tenant.examples.Save(name, kExampleKind, encode_example, changes);
    tenant.decisions.Save(name, kDecisionKind, encode_decision, changes);
    tenant.credits.Save(name, kCreditKind, encode_credit, changes);
    tenant.restricted.Save(name, kRestrictedKind, changes);
    if (std::exchange(tenant.highest_deleted_changed, false)) {
      ByteWriter writer;
      writer.U8(kFormat);
      writer.U32(tenant.highest_deleted);
      changes.push_back({name, kDeletedKind, "", writer.Take()});
    }
  });
}

Result<Nothing> Prompt::Load(int32_t partition, const Change& entry) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  Tenant& tenant = tenants_.Make(partition, entry.tenant);
  if (entry.kind == kRestrictedKind) return tenant.restricted.Load(entry);
  const uint8_t format = reader.U8();
  const bool has_rights = format == kFormat;
  if (!has_rights && format != kFormatWithoutRights) return UnreadableEntry(entry);
  const std::optional<uint64_t> number = NumberOfRow(entry.id);
  if (entry.kind == kPromptKind) {
    Text text;
    text.version = reader.U32();
    text.system = reader.Text();
    const bool own = reader.U8() != 0;
    const Decoding decoding = ReadDecoding(reader);
    if (own) text.decoding = decoding;
    text.configured = reader.U8() != 0;
    for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
      Arm arm;
      arm.preset.name = reader.Text();
      arm.weight = reader.F64();
      arm.sum = reader.F64();
      arm.rewards = reader.U64();
      text.arms.push_back(std::move(arm));
    }
    if (!reader.complete()) return UnreadableEntry(entry);
    SetArms(text);
    tenant.prompts.Restore(entry.id, text);
    if (text.configured && text.system != options_.default_system) {
      // The configured text is another one now: it becomes a new version, as by an upsert.
      Text configured = Configured();
      configured.version = text.version + 1;
      tenant.prompts.Put(entry.id, std::move(configured));
    }
  } else if (entry.kind == kExampleKind && number) {
    Example example;
    example.question = reader.Text();
    example.answer = reader.Text();
    example.people = reader.Names();
    example.events = reader.Numbers();
    if (has_rights) example.rests_on = RestsOn::Read(reader);
    example.vector = reader.Floats();
    example.weight = reader.F64();
    example.sum = reader.F64();
    if (!reader.complete()) return UnreadableEntry(entry);
    tenant.example_of[{example.question, example.rests_on.lists}] = *number;
    tenant.by_helpfulness.insert({Helpfulness(example), *number});
    Rest(tenant, *number, example.rests_on);
    tenant.examples.Restore(*number, std::move(example));
  } else if (entry.kind == kDecisionKind && number) {
    Decision decision;
    decision.prompt_id = reader.Text();
    decision.prompt_version = reader.U32();
    decision.arm = reader.Text();
    for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
      decision.shots.push_back(reader.U64());
    }
    decision.user = reader.Text();
    decision.event = reader.U64();
    decision.question = reader.Text();
    decision.vector = reader.Floats();
    if (has_rights) decision.rests_on = RestsOn::Read(reader);
    if (!reader.complete()) return UnreadableEntry(entry);
    Rest(tenant, *number, decision.rests_on);
    tenant.decisions.Restore(*number, std::move(decision));
  } else if (entry.kind == kCreditKind && number) {
    Credit credit;
    credit.reward = reader.F64();
    credit.number = reader.U64();
    if (!reader.complete()) return UnreadableEntry(entry);
    tenant.credits.Restore(*number, credit);
  } else if (entry.kind == kDeletedKind) {
    const uint32_t highest_deleted = reader.U32();
    if (!reader.complete()) return UnreadableEntry(entry);
    tenant.highest_deleted = highest_deleted;
  } else {
    return UnreadableEntry(entry);
  }
  return Nothing{};
}

void Prompt::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
