// What the model knows of a tenant: documents, questions and the tree of what it learnt.
// log_model.h fills it; plain values, one thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "stages/events.h"

namespace nudge::model {

// A lesson, told so that inline feedback can repeat it.
struct Restated {
  std::string system, query, completion, rating, correction;
  bool clicked = false;
  friend auto operator<=>(const Restated&, const Restated&) = default;
};

// What a version was learnt from.
struct Learnt {
  std::string tenant;
  std::string uri, sha256;  // of the import that it starts from; empty: the base model
  std::vector<Restated> lessons;
  friend auto operator<=>(const Learnt&, const Learnt&) = default;
};

inline constexpr size_t kRoot = 0;

struct Place {  // of the tree of what is learnt
  size_t parent = kRoot;
  enum class Sort : uint8_t { kStart, kLesson, kImport, kUnknown } sort = Sort::kLesson;
  bool counts = true;
  std::set<std::string> people, documents, events;
  Restated lesson;
  std::string uri, sha256;
  bool gone = false;      // forgotten, replaced or taken back
  bool replaced = false;  // counts until a rebuild passes it
  size_t offer = 0;       // its number among the offers
  size_t event = 0;       // of the log
};
struct Made {
  size_t place = kRoot;
  std::optional<Version> parent;  // nothing: not known
  bool dropped = false;           // by a forget
};
struct Offer {
  size_t number = 0;
  std::string user;
  bool admitted = false;
  std::set<std::string> events;  // itself, and the question that it is about
};
struct Asked {
  std::string asker;
  std::string answer;  // its text; empty: there was none
  std::set<std::string> words;
  std::set<std::string> owners;
  std::set<std::string> documents;
  std::set<std::string> events;  // itself, and those whose words stand in its chat
  bool off = false;              // must not be on record
  bool maybe_off = false;        // may not be
};
struct DocumentState {
  uint32_t version = 0;
  bool live = false;
  std::string owner, word;
  std::set<std::string> words;  // of all versions
};
struct Held {  // a version that takes over later
  Version version = 0;
  std::set<Version> before;
  size_t wait = 0;
  size_t events = 0;    // since, all
  size_t accepted = 0;  // since, but for duplicates and refused ones
  bool perhaps = false;
};
struct Tenant {
  std::map<std::string, std::pair<std::string, bool>> known;  // id -> content, is a question
  std::map<std::string, Asked> asked;
  std::set<std::string> refused;  // ids of questions that were
  std::map<std::string, DocumentState> documents;
  std::map<std::string, std::set<std::string>> holders;  // of documents' words, ever
  std::map<std::string, std::set<std::string>> owners;   // who sent documents with a word, ever
  std::set<std::string> prompts;
  std::optional<std::string> system;
  std::vector<Place> places = {
      Place{kRoot, Place::Sort::kStart, true, {}, {}, {}, {}, {}, {}, false, false, 0, 0}};
  size_t head = kRoot;
  std::optional<Version> serve = 0;  // nothing: not known
  std::map<Version, Made> versions;
  std::deque<Version> kept;
  Version made = 0;
  uint32_t unpublished = 0;
  bool frozen = false;
  std::optional<Held> held;
  bool was_held = false;
  bool is_unclear = false;  // from when on what was made last serves
  std::vector<Offer> offers;
  size_t offers_made = 0;
  std::map<std::string, std::set<std::string>> words_of;  // of users
  // Of events that teach: whose word it is, and the question that the event is about.
  std::map<std::string, std::string> event_of, about;
  std::set<std::string> forgotten;
  // What users said of answers: the events by user, then by answer. Words of replaced events.
  std::map<std::string, std::map<std::string, std::vector<std::string>>> said;
  std::set<std::string> replaced_words;
  std::set<std::string> outspoken;  // feedback that is more than signals
  // Of conversations: the ids of their questions, and who asked.
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> conversations;
};
using PathIds = std::vector<size_t>;

// The event that teaches, and the question that it is about.
inline std::set<std::string> EventsOf(const Tenant& tenant, const std::string& id) {
  std::set<std::string> events = {id};
  const auto about = tenant.about.find(id);
  if (about != tenant.about.end()) events.insert(about->second);
  return events;
}

// The places that count, from the start to this one.
inline PathIds PathOf(const Tenant& tenant, size_t place) {
  PathIds path;
  for (; place != kRoot; place = tenant.places[place].parent) {
    const Place& each = tenant.places[place];
    if (each.counts) path.push_back(place);
    if (each.sort != Place::Sort::kLesson) break;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

// All on the way, whether they count or not.
inline std::set<size_t> WayTo(const Tenant& tenant, size_t place) {
  std::set<size_t> way;
  for (; place != kRoot; place = tenant.places[place].parent) {
    way.insert(place);
    if (tenant.places[place].sort != Place::Sort::kLesson) break;
  }
  return way;
}

// Places leave, and with them the replaced ones at or behind which something changed.
inline void Remove(Tenant& tenant, const std::set<size_t>& leaving,
                   const std::set<size_t>& admitted) {
  std::set<size_t> changed;
  for (size_t i = 1; i < tenant.places.size(); ++i) {
    const Place& place = tenant.places[i];
    const bool itself = admitted.contains(i) || (leaving.contains(i) && place.counts);
    const bool behind = place.sort == Place::Sort::kLesson && changed.contains(place.parent);
    if (itself || behind) changed.insert(i);
  }
  for (size_t i = 1; i < tenant.places.size(); ++i) {
    Place& place = tenant.places[i];
    if (admitted.contains(i)) place.counts = true;
    if (!leaving.contains(i) && !(changed.contains(i) && place.replaced)) continue;
    place.counts = false;
    place.gone = true;
    place.offer = 0;  // never admitted after all
  }
}

inline bool IsKnown(const Tenant& tenant, const PathIds& path) {
  return std::none_of(path.begin(), path.end(), [&](size_t place) {
    return tenant.places[place].sort == Place::Sort::kUnknown;
  });
}

inline void TakeOver(Tenant& tenant) {
  if (!tenant.held || tenant.held->accepted < tenant.held->wait) return;
  tenant.serve = tenant.held->version;
  tenant.held.reset();
}

inline size_t AddPlace(Tenant& tenant, Place place) {
  place.parent = tenant.head;
  tenant.places.push_back(std::move(place));
  return tenant.head = tenant.places.size() - 1;
}

// Learning goes on from what the model does not know.
inline void LoseTrack(Tenant& tenant) {
  Place place;
  place.sort = Place::Sort::kUnknown;
  AddPlace(tenant, std::move(place));
  tenant.serve.reset();
  tenant.held.reset();
  tenant.unpublished = 0;
}

inline void MoveTo(Tenant& tenant, Version version) {
  tenant.held.reset();
  tenant.is_unclear = false;
  tenant.unpublished = 0;
  tenant.serve = version;
  tenant.head = version == 0 ? kRoot : tenant.versions.at(version).place;
}

}  // namespace nudge::model
