#include "stages/adapt.h"

#include <algorithm>
#include <utility>

namespace nudge {
namespace {

constexpr uint8_t kFormat = 1;
constexpr char kKind[] = "adapter_versions";

bool Teaches(const Prepared& prepared) {
  if (std::holds_alternative<ExampleGiven>(prepared.event.data)) return true;
  return std::holds_alternative<Feedback>(prepared.event.data) && prepared.signal &&
         (prepared.signal->reward != 0 || prepared.signal->correction);
}

}  // namespace

Adapt::Adapt(AdaptOptions options) : options_(options) {
  options_.publish_every_steps = std::max(options_.publish_every_steps, 1U);
  options_.versions_kept = std::max(options_.versions_kept, 1U);
}

Result<Pinned> Adapt::Apply(Sequence at, const Resolved& resolved) {
  const Event& event = resolved.prepared->event;
  const auto* command = std::get_if<AdapterCommand>(&event.data);
  const bool teaches = Teaches(*resolved.prepared);
  const bool forgets = std::holds_alternative<Forget>(event.data);
  Pinned pinned;
  if (!options_.enabled) return pinned;
  Tenant* tenant = tenants_.Find(at.partition(), event.tenant);
  if (tenant != nullptr) {
    pinned = {tenant->serve, tenant->serve, std::nullopt, tenant->frozen};
  }
  if (resolved.duplicate_of || (command == nullptr && !teaches && !forgets)) return pinned;

  if (tenant == nullptr) tenant = &tenants_.Make(at.partition(), event.tenant);
  if (teaches) {
    if (!tenant->frozen) Teach(*tenant, event.user, pinned);
  } else if (command != nullptr) {
    Command(*tenant, *command, pinned);
  } else if (tenant->taught) {
    pinned.step = Step{++tenant->steps, std::nullopt, false};
    tenant->parent_of.clear();
    MakeVersion(*tenant, *pinned.step);
    tenant->changed = true;
  }
  pinned.serve = tenant->serve;
  pinned.frozen = tenant->frozen;
  return pinned;
}

void Adapt::Teach(Tenant& tenant, const std::string& user, Pinned& pinned) const {
  const bool may = MayTeach(tenant, user);
  tenant.offers.push_back({user, may});
  while (tenant.offers.size() > options_.user_window_events) tenant.offers.pop_front();
  tenant.changed = true;
  if (!may) return;
  tenant.taught = true;
  pinned.step = Step{++tenant.steps, std::nullopt, false};
  if (++tenant.steps_unpublished >= options_.publish_every_steps) {
    MakeVersion(tenant, *pinned.step);
  }
}

bool Adapt::MayTeach(const Tenant& tenant, const std::string& user) const {
  if (user.empty() || options_.user_steps_max == 0) return true;
  uint32_t steps = 0;
  bool alone = true;
  for (const Offer& offer : tenant.offers) {
    if (offer.user != user) {
      alone = false;
    } else if (offer.became_step) {
      ++steps;
    }
  }
  return alone || steps < options_.user_steps_max;
}

void Adapt::Command(Tenant& tenant, const AdapterCommand& command, Pinned& pinned) const {
  using Action = AdapterCommand::Action;
  const auto point_to = [&](Version version) {
    pinned.step = Step{++tenant.steps, std::nullopt, false};
    tenant.serve = version;
    tenant.steps_unpublished = 0;
  };
  tenant.changed = true;
  switch (command.action) {
    case Action::kRollback: {
      std::optional<Version> to = command.version;
      if (!to) {
        const auto current = tenant.parent_of.find(tenant.serve);
        if (current != tenant.parent_of.end()) to = current->second;
      }
      if (to && (*to == 0 || tenant.parent_of.contains(*to))) point_to(*to);
      break;
    }
    case Action::kReset:
      point_to(0);
      break;
    case Action::kFreeze:
      tenant.frozen = true;
      break;
    case Action::kUnfreeze:
      tenant.frozen = false;
      break;
    case Action::kImport:
      pinned.step = Step{++tenant.steps, std::nullopt, false};
      MakeVersion(tenant, *pinned.step);
      break;
  }
}

void Adapt::MakeVersion(Tenant& tenant, Step& step) const {
  const Version version = ++tenant.made;
  tenant.parent_of[version] = tenant.serve;
  while (tenant.parent_of.size() > options_.versions_kept) {
    tenant.parent_of.erase(tenant.parent_of.begin());
  }
  tenant.serve = version;
  tenant.steps_unpublished = 0;
  step.makes = version;
  step.snapshot =
      options_.snapshot_every_versions != 0 && version % options_.snapshot_every_versions == 0;
}

// ---- State --------------------------------------------------------------------------------------

void Adapt::Save(int32_t partition, Changes& changes) {
  tenants_.ForEach(partition, [&](const std::string& name, Tenant& tenant) {
    if (!std::exchange(tenant.changed, false)) return;
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U32(tenant.serve);
    writer.U32(tenant.made);
    writer.U64(tenant.steps);
    writer.U64(tenant.steps_unpublished);
    writer.U8(tenant.frozen);
    writer.U8(tenant.taught);
    writer.U64(tenant.parent_of.size());
    for (const auto& [version, parent] : tenant.parent_of) {
      writer.U32(version);
      writer.U32(parent);
    }
    writer.U64(tenant.offers.size());
    for (const Offer& offer : tenant.offers) {
      writer.Text(offer.user);
      writer.U8(offer.became_step);
    }
    changes.push_back({name, kKind, "", writer.Take()});
  });
}

Result<Nothing> Adapt::Load(int32_t partition, const Change& entry) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const bool known = entry.kind == kKind && reader.U8() == kFormat;
  Tenant tenant;
  tenant.serve = reader.U32();
  tenant.made = reader.U32();
  tenant.steps = reader.U64();
  tenant.steps_unpublished = reader.U64();
  tenant.frozen = reader.U8() != 0;
  tenant.taught = reader.U8() != 0;
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    const Version version = reader.U32();
    tenant.parent_of[version] = reader.U32();
  }
  for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
    std::string user = reader.Text();
    tenant.offers.push_back({std::move(user), reader.U8() != 0});
  }
  if (!known || !reader.complete()) return UnreadableEntry(entry);
  tenants_.Make(partition, entry.tenant) = std::move(tenant);
  return Nothing{};
}

void Adapt::Drop(int32_t partition) {
  tenants_.Drop(partition);
}

}  // namespace nudge
