#include "stages/adapt.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

namespace nudge {
namespace {

constexpr uint8_t kFormat = 3;  // 2 named no lesson, 1 no events
constexpr char kOfferKind[] = "offer";
constexpr char kFrozenKind[] = "adapter_frozen";

bool OffersLesson(const Prepared& prepared) {
  if (std::holds_alternative<ExampleGiven>(prepared.event.data)) return true;
  return std::holds_alternative<Feedback>(prepared.event.data) && prepared.signal &&
         (prepared.signal->reward != 0 || prepared.signal->correction);
}

}  // namespace

Result<Admission> Adapt::Apply(Sequence at, const Resolved& resolved) {
  using Action = AdapterCommand::Action;
  const Event& event = resolved.prepared->event;
  Admission admission;
  if (!options_.enabled) return admission;
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  admission.frozen = tenant != nullptr && tenant->frozen;
  if (resolved.duplicate_of) return admission;
  if (const auto* command = std::get_if<AdapterCommand>(&event.data)) {
    if (command->action != Action::kFreeze && command->action != Action::kUnfreeze) {
      return admission;
    }
    if (tenant == nullptr) tenant = &tenants_.Make(at.partition(), event.tenant);
    admission.frozen = tenant->frozen = command->action == Action::kFreeze;
    tenant->frozen_changed = true;
  } else if (const auto* forget = std::get_if<nudge::Forget>(&event.data)) {
    if (tenant != nullptr) admission.admitted_after_all = Forget(tenant->offers, *forget);
  } else if (admission.frozen || resolved.unheard != Unheard::kNo) {
    return admission;
  } else if (options_.is_by_user()) {
    admission.offers = admission.admitted = OffersLesson(*resolved.prepared);
  } else {
    std::optional<Replaced> replaced;
    if (tenant != nullptr) replaced = TakeOut(tenant->offers, resolved.earlier);
    if (!OffersLesson(*resolved.prepared)) return admission;
    if (tenant == nullptr) tenant = &tenants_.Make(at.partition(), event.tenant);
    admission.offers = true;
    admission.admitted = replaced
                             ? replaced->admitted
                             : MayTeach(tenant->offers, tenant->offers.rows().end(), event.user);
    tenant->offers.Put(replaced ? replaced->key : at.value,
                       {event.user, EventsBehind(event), admission.admitted, at.value});
    if (tenant->offers.size() > options_.lessons_per_tenant) {
      tenant->offers.Erase(uint64_t{tenant->offers.rows().begin()->first});
    }
  }
  return admission;
}

// Whether an offer of this user behind those before `end` is admitted.
bool Adapt::MayTeach(const Adapt::Offers& offers, Adapt::Offers::Rows::const_iterator end,
                     const std::string& user) const {
  if (options_.lead_lessons == 0) return true;
  std::map<std::string_view, uint64_t> admitted;  // of those who offered anything
  admitted[user] = 0;
  for (uint32_t seen = 0; seen < options_.user_window_events && end != offers.rows().begin();
       ++seen) {
    const Offer& offer = (--end)->second.value;
    admitted[offer.user] += offer.admitted ? 1 : 0;
  }
  if (admitted.size() == 1) return true;  // alone
  uint64_t sum = 0;
  uint64_t squares = 0;
  for (const auto& [other, count] : admitted) {
    if (other == user) continue;
    sum += count;
    squares += count * count;
  }
  const uint64_t with_this = admitted[user] + 1;
  if (with_this <= options_.lead_lessons) return true;
  return sum > 0 && (with_this - options_.lead_lessons) * sum <= squares;
}

// The offer of an earlier word leaves. There is one at most, since each takes the place of the one
// before.
std::optional<Adapt::Replaced> Adapt::TakeOut(Adapt::Offers& offers,
                                              const std::vector<Sequence>& earlier) {
  for (const Sequence word : earlier) {
    const Offer* offer = offers.Find(word.value);
    if (offer == nullptr) continue;
    const Replaced replaced{word.value, offer->admitted};
    offers.Erase(word.value);
    return replaced;
  }
  return std::nullopt;
}

// Events go one after the other, as if each were forgotten by an event of its own; what was
// admitted after all and goes with a later one is not admitted.
std::vector<Sequence> Adapt::Forget(Adapt::Offers& offers, const nudge::Forget& forget) const {
  std::set<uint64_t> admitted;
  for (const EventName event : forget.Events()) {
    Remove(
        offers, [&](const Offer& offer) { return offer.events.contains(event); }, admitted);
  }
  if (!forget.user.empty()) {
    Remove(
        offers, [&](const Offer& offer) { return offer.user == forget.user; }, admitted);
  }
  std::vector<Sequence> lessons;
  for (const uint64_t at : admitted) {
    if (const Offer* offer = offers.Find(at)) lessons.push_back({offer->lesson});
  }
  return lessons;
}

void Adapt::Remove(Adapt::Offers& offers, const std::function<bool(const Offer&)>& is_gone,
                   std::set<uint64_t>& admitted) const {
  std::vector<uint64_t> gone;
  for (const auto& [at, row] : offers.rows()) {
    if (is_gone(row.value)) gone.push_back(at);
  }
  for (const uint64_t at : gone) offers.Erase(at);
  if (gone.empty()) return;
  for (auto row = offers.rows().begin(); row != offers.rows().end(); ++row) {
    const Offer& offer = row->second.value;
    if (offer.admitted || !MayTeach(offers, row, offer.user)) continue;
    offers.Change(row->first)->admitted = true;
    admitted.insert(row->first);
  }
}

// ---- State --------------------------------------------------------------------------------------

void Adapt::Save(int32_t partition, Changes& changes) {
  const auto encode = [](const Offer& offer) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.Text(offer.user);
    writer.Numbers(offer.events);
    writer.U8(offer.admitted);
    writer.U64(offer.lesson);
    return writer.Take();
  };
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    tenant.offers.Save(name, kOfferKind, encode, changes);
    if (!std::exchange(tenant.frozen_changed, false)) return;
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U8(tenant.frozen);
    changes.push_back({name, kFrozenKind, "", writer.Take()});
  });
}

Result<Nothing> Adapt::Load(int32_t partition, const Change& entry) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const bool known = reader.U8() == kFormat;
  const std::optional<uint64_t> at = NumberOfRow(entry.id);
  Offer offer;
  const bool is_offer = entry.kind == kOfferKind && at;
  if (is_offer) {
    offer.user = reader.Text();
    offer.events = reader.Numbers();
  }
  const bool flag = reader.U8() != 0;
  if (is_offer) offer.lesson = reader.U64();
  if (!known || !reader.complete() || (!is_offer && entry.kind != kFrozenKind)) {
    return UnreadableEntry(entry);
  }
  Tenant& tenant = tenants_.Make(partition, entry.tenant);
  if (is_offer) {
    offer.admitted = flag;
    tenant.offers.Restore(*at, std::move(offer));
  } else {
    tenant.frozen = flag;
  }
  return Nothing{};
}

void Adapt::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
