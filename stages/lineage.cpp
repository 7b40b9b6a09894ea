#include "stages/lineage.h"

#include <algorithm>
#include <utility>

#include "stages/learner_rows.h"

namespace nudge {
namespace {

constexpr uint8_t kFormat = 3;       // 2 marked no place, 1 did not say where a lesson comes from
constexpr uint8_t kPlaceFormat = 4;  // 3 is the same without rights
constexpr size_t kSnapshotsKnown = 1000;
constexpr size_t kNamesKnown = 100'000;  // in older_; beyond them everybody counts as named
constexpr char kEverybody[] = "";        // no person and no document has this name

bool HoldsAny(const Lineage::Holds& holds, const Forget& forget) {
  const std::vector<EventName> events = forget.Events();
  if (forget.of_events()) {
    return std::any_of(events.begin(), events.end(),
                       [&](EventName event) { return holds.events.contains(event); });
  }
  return forget.user.empty() ? holds.documents.contains(forget.document_id)
                             : holds.people.contains(forget.user);
}

void Join(std::set<std::string>& names, const std::set<std::string>& more) {
  names.insert(more.begin(), more.end());
  if (names.size() > kNamesKnown) names = {kEverybody};
}

}  // namespace

// ---- What serves --------------------------------------------------------------------------------

Version Lineage::serving() const {
  return held_ && held_->events_left == 0 ? held_->version : serve_;
}

void Lineage::Advance() {
  if (!held_) return;
  changed_ = true;
  if (held_->events_left > 0) {
    --held_->events_left;
    return;
  }
  serve_ = held_->version;
  held_.reset();
}

// ---- References, which are counted before what they come from changes --------------------------

void Lineage::CountReferences() const {
  if (std::exchange(counted_, true)) return;
  references_.clear();
  if (head_ != 0) ++references_[head_];
  for (const auto& [place, row] : places_.rows()) {
    if (row.value.parent != 0) ++references_[row.value.parent];
  }
  for (const auto& [version, row] : versions_.rows()) {
    if (row.value.place != 0) ++references_[row.value.place];
  }
}

void Lineage::Hold(LearningPlace place) {
  CountReferences();
  if (place != 0) ++references_[place];
}

// One reference less; places that nothing leads to any more are dropped.
void Lineage::Release(LearningPlace place) {
  CountReferences();
  while (place != 0) {
    const auto references = references_.find(place);
    ENSURE(references != references_.end());
    if (--references->second > 0) return;
    references_.erase(references);
    const LearningPlace parent = places_.Find(place)->parent;
    Leave(place, Standing::kDropped);
    place = parent;
  }
}

// The place is no longer of the tree; of a lesson is noted when it was learnt and why it left.
void Lineage::Leave(LearningPlace place, Standing why) {
  const Node& node = *places_.Find(place);
  const bool in_weights = why == Standing::kTooOld && node.admitted;
  if (why == Standing::kTooOld && !node.admitted) why = Standing::kNotAdmitted;
  if (!node.is_import) {
    formers_.Put(place, {node.step, node.makes, why,
                         in_weights ? node.holds.events : std::set<EventName>()});
  }
  places_.Erase(place);
  dropped_places_.push_back(place);
  if (formers_.size() > kFormerKnown) {
    formers_.Erase(LearningPlace{formers_.rows().begin()->first});
  }
}

void Lineage::MoveHead(LearningPlace place) {
  Hold(place);
  Release(std::exchange(head_, place));
}

void Lineage::EraseVersion(Version version) {
  CountReferences();
  const LearningPlace place = versions_.Find(version)->place;
  versions_.Erase(uint64_t{version});
  dropped_versions_.push_back(version);
  Release(place);
}

Step Lineage::NextStep() {
  steps_ = std::max(steps_, others_.step) + 1;
  return {steps_, std::nullopt, false};
}

void Lineage::MakeVersion(Step& step, const AdaptOptions& options) {
  CountReferences();
  const Version version = made_ = std::max(made_, others_.version) + 1;
  versions_.Put(version, {head_, parent()});
  Hold(head_);
  if (held_) {
    held_->version = version;
  } else {
    serve_ = version;
  }
  steps_unpublished_ = 0;
  step.makes = version;
  step.snapshot =
      options.snapshot_every_versions != 0 && version % options.snapshot_every_versions == 0;
  if (step.snapshot) {
    snapshots_.emplace_back(version, head_);
    if (snapshots_.size() > kSnapshotsKnown) snapshots_.pop_front();
  }
  TrimVersions(options);
}

// The oldest versions leave, but for the newest one and the one that serves before it takes over.
void Lineage::TrimVersions(const AdaptOptions& options) {
  for (auto row = versions_.rows().begin();
       versions_.size() > std::max(options.versions_kept, 1U) && row != versions_.rows().end();) {
    const auto version = static_cast<Version>((row++)->first);
    if (version != made_ && version != serve_) EraseVersion(version);
  }
}

// ---- Lessons and commands -----------------------------------------------------------------------

std::optional<Step> Lineage::Learn(Sequence at, Holds holds, bool admitted,
                                   const AdaptOptions& options, Taught taught,
                                   const Unlearnt* behind) {
  changed_ = true;
  CountReferences();
  const LearningPlace place = LearningPlaceOf(at);
  places_.Put(place, {head_, false, admitted, std::move(holds), std::move(taught), 0, 0, {}});
  Hold(head_);  // as the parent
  MoveHead(place);
  TrimLessons(options);
  if (!admitted) return behind != nullptr ? Rebuild(*behind, options) : std::nullopt;
  Step step = NextStep();
  ++steps_unpublished_;
  if (behind != nullptr && behind->makes_version) {
    MakeRebuilt(step, *behind, options);
  } else if (steps_unpublished_ >= std::max(options.publish_every_steps, 1U)) {
    MakeVersion(step, options);
  }
  Node& node = *places_.Change(place);
  node.step = step.number;
  node.makes = step.makes.value_or(0);
  return step;
}

// The oldest lesson beyond the limit leaves the tree. Who is in it is remembered, since the weights
// still hold it until they are learnt anew.
void Lineage::TrimLessons(const AdaptOptions& options) {
  while (places_.size() > std::max(options.lessons_per_tenant, 1U)) {
    auto oldest = places_.rows().begin();
    while (oldest != places_.rows().end() && oldest->second.value.is_import) ++oldest;
    if (oldest == places_.rows().end() || oldest->first == head_) return;
    if (oldest->second.value.admitted) {
      Join(older_.people, oldest->second.value.holds.people);
      Join(older_.documents, oldest->second.value.holds.documents);
    }
    Skip(LearningPlace{oldest->first}, Standing::kTooOld);
  }
}

Step Lineage::Import(Sequence at, const AdaptOptions& options) {
  changed_ = true;
  places_.Put(LearningPlaceOf(at), {0, true, true, {}, {}, 0, 0, {}});
  MoveHead(LearningPlaceOf(at));
  ForgetOlder(Standing::kDropped);
  if (held_) serve_ = std::exchange(held_, std::nullopt)->version;
  Step step = NextStep();
  MakeVersion(step, options);
  return step;
}

std::optional<Lineage::Unlearnt> Lineage::RollBack(std::optional<Version> to,
                                                   const AdaptOptions& options) {
  const Version from = serving();
  if (!to) {
    const Made* current = versions_.Find(from);
    if (current == nullptr) return std::nullopt;
    to = current->parent;
  }
  const Made* target = versions_.Find(*to);
  if (*to != 0 && target == nullptr) return std::nullopt;
  changed_ = true;
  const std::set<LearningPlace> before = PathTo(head_);
  held_.reset();
  serve_ = *to;
  steps_unpublished_ = 0;
  MoveHead(target != nullptr ? target->place : 0);
  Leaving passed;
  for (const LearningPlace place : PathTo(head_)) {
    const std::optional<Standing> leaves = places_.Find(place)->leaves;
    if (leaves && !before.contains(place)) passed.emplace(place, *leaves);
  }
  Unlearnt unlearnt = Remove(std::move(passed), {}, false, options);
  unlearnt.step = NextStep();
  if (unlearnt.makes_version) MakeRebuilt(*unlearnt.step, unlearnt, options);
  return unlearnt;
}

Step Lineage::Reset() {
  return *RollBack(Version{0}, {})->step;
}

// Offers that are not admitted lead nowhere: what counts behind one is what counts before it.
LearningPlace Lineage::LastThatCounts(LearningPlace place) const {
  while (place != 0 && !places_.Find(place)->admitted) place = places_.Find(place)->parent;
  return place;
}

std::vector<LearningPlace> Lineage::PathOfHead() const {
  std::vector<LearningPlace> path;
  for (LearningPlace place = head_; place != 0;) {
    const Node& node = *places_.Find(place);
    if (node.admitted) path.push_back(place);
    place = node.parent;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

// ---- Unlearning ---------------------------------------------------------------------------------

// The places at which other lessons count than before, gone ones among them. A place comes after
// the one before it in the order of numbers too.
std::set<LearningPlace> Lineage::ChangedBy(const Leaving& leaving,
                                           const std::set<LearningPlace>& admitted,
                                           bool all) const {
  std::set<LearningPlace> changed;
  for (const auto& [place, row] : places_.rows()) {
    const bool itself = admitted.contains(place) || (leaving.contains(place) && row.value.admitted);
    const bool inherited = changed.contains(row.value.parent);
    if (all || itself || inherited) changed.insert(changed.end(), place);
  }
  return changed;
}

// Takes a place out: what stood there or behind it stands at or behind the place before. Its
// references say how many these are; those behind mostly come next, so that it costs O(log n) but
// where learning branched.
void Lineage::Skip(LearningPlace place, Standing why) {
  CountReferences();
  const LearningPlace parent = places_.Find(place)->parent;
  uint64_t left = references_.at(place);
  if (head_ == place) {
    head_ = parent;
    Hold(parent);
    --left;
  }
  for (const auto& [version, row] : versions_.rows()) {
    if (row.value.place != place) continue;
    versions_.Change(version)->place = parent;
    Hold(parent);
    --left;
  }
  for (auto row = places_.rows().upper_bound(place); left > 0; ++row) {
    if (row->second.value.parent != place) continue;
    places_.Change(row->first)->parent = parent;
    Hold(parent);
    --left;
  }
  references_.erase(place);
  Leave(place, why);
  Release(parent);
}

// Whether what is forgotten may be in the weights by lessons that have left the tree.
bool Lineage::IsInOlder(const nudge::Forget& forget) const {
  if (forget.of_events()) {
    return std::any_of(formers_.rows().begin(), formers_.rows().end(), [&](const auto& row) {
      return HoldsAny({{}, {}, row.second.value.events, {}}, forget);
    });
  }
  return HoldsAny(older_, forget) || older_.people.contains(kEverybody) ||
         older_.documents.contains(kEverybody);
}

// What is served from now on has learnt none of them.
void Lineage::ForgetOlder(Standing why) {
  older_ = {};
  std::vector<LearningPlace> too_old;
  for (const auto& [place, row] : formers_.rows()) {
    if (row.value.why == Standing::kTooOld) too_old.push_back(place);
  }
  for (const LearningPlace place : too_old) {
    Former& former = *formers_.Change(place);
    former.why = why;
    former.events.clear();
  }
}

// Takes places out of the tree, and with them the marked ones that a rebuild passes; what serves
// now.
Lineage::Unlearnt Lineage::Remove(Leaving leaving, const std::set<LearningPlace>& admitted,
                                  bool all, const AdaptOptions& options) {
  Unlearnt unlearnt;
  unlearnt.lessons = leaving.size();
  const std::set<LearningPlace> changed = ChangedBy(leaving, admitted, all);
  for (const LearningPlace place : changed) {
    if (const auto leaves = places_.Find(place)->leaves) leaving.emplace(place, *leaves);
  }
  unlearnt.passed = leaving.size() - unlearnt.lessons;
  unlearnt.head_changes = changed.contains(head_);
  for (const auto& [version, row] : versions_.rows()) {
    if (changed.contains(row.value.place)) {
      unlearnt.versions.push_back(static_cast<Version>(version));
    }
  }
  for (const LearningPlace place : admitted) places_.Change(place)->admitted = true;
  for (const auto& [place, why] : leaving) Skip(place, why);
  unlearnt.changed.assign(changed.begin(), changed.end());
  for (const Version version : unlearnt.versions) EraseVersion(version);
  if (unlearnt.head_changes) FallBack(changed, options, unlearnt);
  return unlearnt;
}

Lineage::Unlearnt Lineage::Forget(const nudge::Forget& forget,
                                  const std::vector<Sequence>& admitted_after_all,
                                  const AdaptOptions& options) {
  Leaving gone;
  std::set<LearningPlace> admitted;
  for (const auto& [place, row] : places_.rows()) {
    if (HoldsAny(row.value.holds, forget)) gone.emplace(place, Standing::kForgotten);
  }
  for (const Sequence at : admitted_after_all) {
    const Node* node = places_.Find(LearningPlaceOf(at));
    if (node != nullptr && !node->admitted && !gone.contains(LearningPlaceOf(at))) {
      admitted.insert(LearningPlaceOf(at));
    }
  }
  const bool older = IsInOlder(forget);
  if (gone.empty() && admitted.empty() && !older) return {};

  changed_ = true;
  const auto learnt = std::find_if(gone.begin(), gone.end(), [&](const auto& leaving) {
    return places_.Find(leaving.first)->admitted;
  });
  std::vector<Version> snapshots;
  if (learnt != gone.end() || older) snapshots = SnapshotsSince(older ? 0 : learnt->first);
  if (older) ForgetOlder(Standing::kForgotten);
  Unlearnt forgotten = Remove(std::move(gone), admitted, older, options);
  forgotten.snapshots = std::move(snapshots);
  forgotten.step = Rebuild(forgotten, options);
  return forgotten;
}

std::set<LearningPlace> Lineage::NewestOfHead(size_t lessons) const {
  std::set<LearningPlace> newest;
  for (LearningPlace place = head_; place != 0 && newest.size() < lessons;) {
    const Node& node = *places_.Find(place);
    if (node.admitted && !node.is_import) newest.insert(place);
    place = node.parent;
  }
  return newest;
}

Lineage::Withdrawn Lineage::Withdraw(const std::vector<Sequence>& earlier, Standing why,
                                     const AdaptOptions& options) {
  Withdrawn withdrawn;
  if (earlier.empty()) return withdrawn;
  const std::set<LearningPlace> newest = NewestOfHead(options.replace_lessons_max);
  Leaving leaving;
  for (const Sequence at : earlier) {
    const LearningPlace place = LearningPlaceOf(at);
    const Node* node = places_.Find(place);
    if (node == nullptr) {
      const Former* former = formers_.Find(place);
      withdrawn.too_old += former != nullptr && former->why == Standing::kTooOld ? 1 : 0;
    } else if (!node->admitted) {
      withdrawn.never_learnt.push_back(node->taught.id);
      leaving.emplace(place, why);
    } else if (newest.contains(place)) {
      withdrawn.at_once.push_back(node->taught.id);
      leaving.emplace(place, node->leaves.value_or(why));
    } else if (!node->leaves) {
      withdrawn.with_next_rebuild.push_back(node->taught.id);
      places_.Change(place)->leaves = why;
    }
  }
  if (leaving.empty()) return withdrawn;
  changed_ = true;
  withdrawn.unlearnt = Remove(std::move(leaving), {}, false, options);
  return withdrawn;
}

// What serves now that the head has other lessons, and what its learner does.
void Lineage::FallBack(const std::set<LearningPlace>& changed, const AdaptOptions& options,
                       Unlearnt& unlearnt) {
  const std::vector<LearningPlace> path = PathOfHead();
  held_.reset();
  steps_unpublished_ = 0;
  serve_ = 0;
  if (path.empty()) return;
  unlearnt.lessons_again = static_cast<size_t>(std::count_if(
      path.begin(), path.end(), [&](LearningPlace place) { return changed.contains(place); }));
  // The nearest kept version on the path: the last of those at the last place.
  LearningPlace served_place = 0;
  for (const auto& [version, row] : versions_.rows()) {
    const LearningPlace place = LastThatCounts(row.value.place);
    if (place < served_place || !std::binary_search(path.begin(), path.end(), place)) continue;
    serve_ = static_cast<Version>(version);
    served_place = place;
  }
  unlearnt.makes_version = served_place != path.back();
  if (!unlearnt.makes_version) return;
  unlearnt.events_until_takeover =
      unlearnt.lessons_again / std::max(options.relearn_lessons_per_event, 1U);
}

std::optional<Step> Lineage::Rebuild(const Unlearnt& unlearnt, const AdaptOptions& options) {
  if (!unlearnt.head_changes) return std::nullopt;
  Step step = NextStep();
  if (unlearnt.makes_version) MakeRebuilt(step, unlearnt, options);
  return step;
}

void Lineage::MakeRebuilt(Step& step, const Unlearnt& unlearnt, const AdaptOptions& options) {
  const uint64_t events = unlearnt.events_until_takeover;
  if (events > 0) held_ = Held{serve_, events + 1};  // the event at hand is done, too
  MakeVersion(step, options);
}

Lineage::Unlearnt Lineage::Clear() {
  Unlearnt cleared;
  cleared.snapshots = SnapshotsSince(0);
  Lineage fresh;
  fresh.dropped_places_ = std::move(dropped_places_);
  fresh.dropped_versions_ = std::move(dropped_versions_);
  for (const auto& [place, row] : places_.rows()) {
    cleared.lessons += row.value.is_import ? 0 : 1;
    fresh.dropped_places_.push_back(place);
  }
  for (const auto& [version, row] : versions_.rows()) {
    cleared.versions.push_back(static_cast<Version>(version));
  }
  fresh.dropped_versions_.insert(fresh.dropped_versions_.end(), cleared.versions.begin(),
                                 cleared.versions.end());
  const auto empty = [](auto& table, auto& into) {
    while (!table.empty()) table.Erase(uint64_t{table.rows().begin()->first});
    into = std::move(table);
  };
  empty(places_, fresh.places_);
  empty(versions_, fresh.versions_);
  empty(formers_, fresh.formers_);
  fresh.changed_ = true;
  *this = std::move(fresh);
  return cleared;
}

// ---- For those who look -------------------------------------------------------------------------

std::set<LearningPlace> Lineage::PathTo(LearningPlace place) const {
  std::set<LearningPlace> path;
  for (; place != 0; place = places_.Find(place)->parent) path.insert(path.begin(), place);
  return path;
}

std::vector<Lineage::LessonView> Lineage::Lessons() const {
  const Made* made = versions_.Find(serving());
  const std::set<LearningPlace> serves = PathTo(made != nullptr ? made->place : 0);
  const std::set<LearningPlace> learnt = PathTo(head_);
  const auto version = [](Version makes) {
    return makes != 0 ? std::optional(makes) : std::nullopt;
  };
  std::map<LearningPlace, LessonView> lessons;
  for (const auto& [place, row] : formers_.rows()) {
    const Former& former = row.value;
    lessons[place] = {place, former.step, version(former.makes), former.why, {}, {}, {}, {}};
  }
  for (const auto& [place, row] : places_.rows()) {
    const Node& node = row.value;
    if (node.is_import) continue;
    const Standing standing = !node.admitted           ? Standing::kNotAdmitted
                              : serves.contains(place) ? Standing::kServes
                              : learnt.contains(place) ? Standing::kComes
                                                       : Standing::kSetAside;
    RestsOn rests_on = node.holds.rests_on;
    rests_on.documents.insert(node.holds.documents.begin(), node.holds.documents.end());
    lessons[place] = {place,       node.step,         version(node.makes), standing,
                      node.taught, node.holds.people, std::move(rests_on), node.leaves};
  }
  std::vector<LessonView> views;
  views.reserve(lessons.size());
  for (auto& [place, view] : lessons) views.push_back(std::move(view));
  return views;
}

std::vector<Version> Lineage::SnapshotsSince(LearningPlace first) const {
  std::vector<Version> since;
  for (const auto& [version, place] : snapshots_) {
    if (place >= first) since.push_back(version);
  }
  return since;
}

// ---- State --------------------------------------------------------------------------------------

void Lineage::Save(const std::string& tenant, Changes& changes) {
  const auto encode_place = [](const Node& node) {
    ByteWriter writer;
    writer.U8(kPlaceFormat);
    writer.U64(node.parent);
    writer.U8(node.is_import);
    writer.U8(node.admitted);
    writer.Names(node.holds.people);
    writer.Names(node.holds.documents);
    writer.Numbers(node.holds.events);
    for (const std::string* text : {&node.taught.source, &node.taught.id, &node.taught.user,
                                    &node.taught.query_source, &node.taught.query_id}) {
      writer.Text(*text);
    }
    writer.U64(node.step);
    writer.U32(node.makes);
    writer.U8(node.leaves.has_value());
    writer.U8(static_cast<uint8_t>(node.leaves.value_or(Standing::kServes)));
    node.holds.rests_on.Write(writer);
    return writer.Take();
  };
  const auto encode_former = [](const Former& former) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U64(former.step);
    writer.U32(former.makes);
    writer.U8(static_cast<uint8_t>(former.why));
    writer.Numbers(former.events);
    return writer.Take();
  };
  const auto encode_version = [](const Made& made) {
    ByteWriter writer;
    writer.U8(kFormat);
    writer.U64(made.place);
    writer.U32(made.parent);
    return writer.Take();
  };
  places_.Save(tenant, kPlaceKind, encode_place, changes);
  versions_.Save(tenant, kVersionKind, encode_version, changes);
  formers_.Save(tenant, kFormerKind, encode_former, changes);
  if (!std::exchange(changed_, false)) return;
  ByteWriter writer;
  writer.U8(kFormat);
  writer.U32(serve_);
  writer.U8(held_.has_value());
  writer.U32(held_ ? held_->version : 0);
  writer.U64(held_ ? held_->events_left : 0);
  writer.U32(made_);
  writer.U64(steps_);
  writer.U64(steps_unpublished_);
  writer.U64(head_);
  writer.U64(snapshots_.size());
  for (const auto& [version, place] : snapshots_) {
    writer.U32(version);
    writer.U64(place);
  }
  writer.Names(older_.people);
  writer.Names(older_.documents);
  changes.push_back({tenant, kHeadKind, "", writer.Take()});
}

Result<Nothing> Lineage::Load(const Change& entry) {
  ByteReader reader(entry.value ? std::string_view(*entry.value) : std::string_view());
  const std::optional<uint64_t> number = NumberOfRow(WithoutLearner(entry.id));
  const uint8_t format = reader.U8();
  const bool has_rights = entry.kind == kPlaceKind && format == kPlaceFormat;
  if ((format != kFormat && !has_rights) || (entry.kind != kHeadKind && !number)) {
    return UnreadableEntry(entry);
  }
  if (entry.kind == kPlaceKind) {
    Node node;
    node.parent = reader.U64();
    node.is_import = reader.U8() != 0;
    node.admitted = reader.U8() != 0;
    node.holds.people = reader.Names();
    node.holds.documents = reader.Names();
    node.holds.events = reader.Numbers();
    for (std::string* text : {&node.taught.source, &node.taught.id, &node.taught.user,
                              &node.taught.query_source, &node.taught.query_id}) {
      *text = reader.Text();
    }
    node.step = reader.U64();
    node.makes = reader.U32();
    const bool leaves = reader.U8() != 0;
    const uint8_t why = reader.U8();
    if (leaves) node.leaves = static_cast<Standing>(why);
    if (has_rights) node.holds.rests_on = RestsOn::Read(reader);
    if (!reader.complete() || why > static_cast<uint8_t>(Standing::kTakenBack)) {
      return UnreadableEntry(entry);
    }
    places_.Restore(*number, std::move(node));
  } else if (entry.kind == kVersionKind) {
    Made made;
    made.place = reader.U64();
    made.parent = reader.U32();
    if (!reader.complete()) return UnreadableEntry(entry);
    versions_.Restore(*number, made);
  } else if (entry.kind == kFormerKind) {
    Former former;
    former.step = reader.U64();
    former.makes = reader.U32();
    const uint8_t why = reader.U8();
    former.why = static_cast<Standing>(why);
    former.events = reader.Numbers();
    if (!reader.complete() || why > static_cast<uint8_t>(Standing::kTakenBack)) {
      return UnreadableEntry(entry);
    }
    formers_.Restore(*number, std::move(former));
  } else {
    Lineage loaded;
    loaded.serve_ = reader.U32();
    const bool held = reader.U8() != 0;
    const Version version = reader.U32();
    const uint64_t events_left = reader.U64();
    if (held) loaded.held_ = Held{version, events_left};
    loaded.made_ = reader.U32();
    loaded.steps_ = reader.U64();
    loaded.steps_unpublished_ = reader.U64();
    loaded.head_ = reader.U64();
    for (uint64_t left = reader.U64(); left > 0 && !reader.failed(); --left) {
      const Version snapshot = reader.U32();
      loaded.snapshots_.emplace_back(snapshot, reader.U64());
    }
    loaded.older_.people = reader.Names();
    loaded.older_.documents = reader.Names();
    if (!reader.complete()) return UnreadableEntry(entry);
    loaded.places_ = std::move(places_);
    loaded.versions_ = std::move(versions_);
    loaded.formers_ = std::move(formers_);
    *this = std::move(loaded);
  }
  counted_ = false;
  return Nothing{};
}

}  // namespace nudge
