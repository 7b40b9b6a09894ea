// What must hold of a run, worked out slowly and obviously from its log:
// World, LogEvents, what the program answered and was shown -> [LogModel] -> the first broken
// promise.
//
// The model does not compute answers or digests. It says how each event must end, which version may
// serve, and which lessons count for it (Claim); whoever runs the model gives just those lessons to
// a fresh program and compares. Chats are taken as they were shown: whose words stand in them is
// told by the words. Where the promises leave open what happens (which version a rollback leads to
// right after a rebuild, say) the model follows the receipt, or does not know and makes no claim.
//
// Built once for a run, then only read; any thread.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "stages/events.h"
#include "tests/model/log_generator.h"
#include "tests/model/tenant_model.h"

namespace nudge::model {

struct Failure {
  std::string kind;  // the same for the same sort of fault
  std::string message;
  size_t event = 0;
};

struct Claim {
  size_t event = 0;
  std::string digest;
  Learnt learnt;
};

using ShownChats = std::map<std::string, std::vector<ChatMessage>>;  // by the answer's text

class LogModel {
 public:
  LogModel(const World& world, std::string default_system, const std::vector<LogEvent>& events,
           const std::vector<Outcome>& outcomes, const ShownChats& chats)
      : world_(world),
        default_system_(std::move(default_system)),
        events_(events),
        outcomes_(outcomes),
        chats_(chats) {
    for (at_ = 0; at_ < events.size() && at_ < outcomes.size() && !failure_; ++at_) {
      Apply(events[at_], outcomes[at_]);
      std::set<std::string> forgotten;
      for (const auto& [name, tenant] : tenants_) {
        forgotten.insert(tenant.forgotten.begin(), tenant.forgotten.end());
      }
      forgotten_after_.push_back(std::move(forgotten));
    }
  }

  const std::optional<Failure>& failure() const { return failure_; }
  const std::vector<Claim>& claims() const { return claims_; }
  // The events whose lessons count for what serves in the end, of each tenant of which that is
  // known.
  std::map<std::string, std::set<size_t>> Serving() const {
    std::map<std::string, std::set<size_t>> serving;
    for (const auto& [name, tenant] : tenants_) {
      if (tenant.held || tenant.is_unclear || !tenant.serve) continue;
      const auto made = tenant.versions.find(*tenant.serve);
      if (*tenant.serve != 0 && made == tenant.versions.end()) continue;
      const PathIds path = *tenant.serve == 0 ? PathIds() : PathOf(tenant, made->second.place);
      if (!IsKnown(tenant, path)) continue;
      std::set<size_t>& events = serving[name];
      for (const size_t place : path) {
        if (tenant.places[place].sort == Place::Sort::kLesson) {
          events.insert(tenant.places[place].event);
        }
      }
    }
    return serving;
  }
  // Words that nothing may hold once `count` events are done.
  std::set<std::string> ForgottenAfter(size_t count) const {
    return count == 0 || forgotten_after_.empty()
               ? std::set<std::string>()
               : forgotten_after_[std::min(count, forgotten_after_.size()) - 1];
  }

 private:
  // ---- What is said of an event -----------------------------------------------------------------

  void Fail(const std::string& kind, const std::string& message) {
    if (failure_) return;
    failure_ = Failure{kind,
                       "event " + std::to_string(at_) + " (" + events_[at_].id + " " +
                           kKindNames[static_cast<size_t>(events_[at_].kind)] + " of " +
                           events_[at_].tenant + "): " + message,
                       at_};
  }

  static std::string Shown(const Outcome& outcome) {
    if (const auto* letter = std::get_if<DeadLetter>(&outcome.what)) {
      return std::string(Name(letter->error.code)) + ": " + letter->error.message;
    }
    if (const auto* applied = std::get_if<Applied>(&outcome.what)) return applied->summary;
    return "response " + std::get<Response>(outcome.what).text;
  }

  // The event must be refused with this code; true: it was.
  void ExpectRefusal(const Outcome& outcome, std::optional<Code> code) {
    const auto* letter = std::get_if<DeadLetter>(&outcome.what);
    const auto* applied = std::get_if<Applied>(&outcome.what);
    const bool is_known = (applied != nullptr && applied->summary.starts_with("duplicate")) ||
                          (letter != nullptr && letter->error.code == Code::kChangedEvent);
    if (is_known && code != Code::kChangedEvent) {
      return Fail("identity", "what was refused is to be judged again, got " + Shown(outcome));
    }
    if (letter == nullptr || (code && letter->error.code != *code)) {
      Fail("outcome", "should be refused" +
                          (code ? " as " + std::string(Name(*code)) : std::string()) + ", got " +
                          Shown(outcome));
    }
  }

  const Applied* ExpectReceipt(const Outcome& outcome) {
    const auto* applied = std::get_if<Applied>(&outcome.what);
    if (applied == nullptr) Fail("outcome", "should have a receipt, got " + Shown(outcome));
    return applied;
  }

  // ---- Events -----------------------------------------------------------------------------------

  void Apply(const LogEvent& event, const Outcome& outcome) {
    if (event.kind == Kind::kGarbage) return ExpectRefusal(outcome, std::nullopt);
    Tenant& tenant = tenants_[event.tenant];
    TakeOver(tenant);
    const bool accepted = ApplyTo(tenant, event, outcome);
    if (tenant.held) {
      ++tenant.held->events;
      if (accepted) ++tenant.held->accepted;
    }
    if (accepted) {
      for (const std::string& word : MarkedWords(event.data)) tenant.forgotten.erase(word);
    }
  }

  // Whether it was neither refused nor a duplicate.
  bool ApplyTo(Tenant& tenant, const LogEvent& event, const Outcome& outcome) {
    const std::string content = TypeOf(event.kind) + event.user + "\n" + event.data;
    if (const auto known = tenant.known.find(event.id); known != tenant.known.end()) {
      if (known->second.first != content) {
        ExpectRefusal(outcome, Code::kChangedEvent);
        return false;
      }
      const Applied* applied = ExpectReceipt(outcome);
      if (applied != nullptr && (applied->step || !applied->summary.starts_with("duplicate"))) {
        Fail("outcome", "is a duplicate, got " + Shown(outcome));
      }
      if (applied != nullptr && tenant.refused.contains(event.id) &&
          !applied->summary.ends_with("ask again under a new id")) {
        Fail("outcome", "should say that there is no answer, got " + Shown(outcome));
      }
      return false;
    }
    if (event.kind == Kind::kQuery && !event.prompt_id.empty() && event.prompt_id != "default" &&
        !tenant.prompts.contains(event.prompt_id)) {
      ExpectRefusal(outcome, Code::kUnknownPrompt);
      return false;
    }
    if (event.kind == Kind::kFeedback) {
      const auto about = tenant.known.find(event.query_id);
      if (tenant.refused.contains(event.query_id)) tenant.asked[event.query_id].off = true;
      if (about == tenant.known.end() || !about->second.second) {
        ExpectRefusal(outcome, Code::kUnknownQuery);
        return false;
      }
    }
    // What is refused holds no identity: sent again, it is judged again.
    if (event.kind == Kind::kImport && IsWrong(event)) {
      ExpectRefusal(outcome, std::nullopt);
      return false;
    }
    if (event.too_long) {
      ExpectRefusal(outcome, Code::kTooLarge);
      tenant.refused.insert(event.id);  // but its identity stays
      tenant.known[event.id] = {content, true};
      NoteConversation(tenant, event);
      return false;
    }
    tenant.known[event.id] = {content, event.kind == Kind::kQuery};
    NoteConversation(tenant, event);
    NoteWords(tenant, event);
    if (event.kind == Kind::kQuery) {
      Ask(tenant, event, outcome);
      return std::holds_alternative<Response>(outcome.what);
    }
    if (event.kind == Kind::kImport) return Import(tenant, event, outcome);
    const Applied* applied = ExpectReceipt(outcome);
    if (applied == nullptr) return false;
    Change(tenant, event, *applied);
    return true;
  }

  static void NoteConversation(Tenant& tenant, const LogEvent& event) {
    if (event.kind != Kind::kQuery || event.conversation.empty()) return;
    tenant.conversations[event.conversation].emplace_back(event.id, event.user);
  }

  // Whose words the event's are, and of which event.
  static void NoteWords(Tenant& tenant, const LogEvent& event) {
    for (const std::string& word : MarkedWords(event.data)) {
      if (!event.user.empty() && !word.starts_with("zd")) {
        tenant.words_of[event.user].insert(word);
      }
      if (word.starts_with("ze")) tenant.event_of[word] = event.id;
    }
    if (event.kind == Kind::kFeedback) tenant.about[event.id] = event.query_id;
  }

  static bool IsWrong(const LogEvent& import) {
    return import.sha256 == Sha256Hex("absent") || import.sha256 == Sha256Hex("another");
  }

  void Change(Tenant& tenant, const LogEvent& event, const Applied& applied) {
    switch (event.kind) {
      case Kind::kUpsert: {
        DocumentState& document = tenant.documents[event.document_id];
        ++document.version;
        document.live = true;
        document.owner = event.user;
        document.word = *MarkedWords(event.text).begin();
        document.words.insert(document.word);
        tenant.holders[document.word].insert(event.document_id);
        tenant.owners[document.word].insert(event.user);
        break;
      }
      case Kind::kDelete:
        if (tenant.documents.contains(event.document_id)) {
          tenant.documents[event.document_id].live = false;
        }
        break;
      case Kind::kPromptUpsert:
        if (event.prompt_id == "default") {
          tenant.system = event.text;
        } else {
          tenant.prompts.insert(event.prompt_id);
        }
        break;
      case Kind::kPromptDelete:
        tenant.prompts.erase(event.prompt_id);
        break;
      case Kind::kFeedback:
      case Kind::kInline:
      case Kind::kExample:
        return Teach(tenant, event, applied);
      case Kind::kFreeze:
      case Kind::kUnfreeze:
        tenant.frozen = event.kind == Kind::kFreeze;
        break;
      case Kind::kRollback:
        return RollBack(tenant, event, applied);
      case Kind::kReset:
        MoveTo(tenant, 0);
        if (applied.makes_version) Fail("receipt", "a reset makes no version: " + applied.summary);
        return;
      case Kind::kForgetUser:
      case Kind::kForgetDocument:
        return Forget(tenant, event, applied);
      case Kind::kForgetEvent:
        return ForgetEvents(tenant, {event.query_id}, tenant.known.contains(event.query_id),
                            applied);
      case Kind::kForgetConversation: {
        // As if each of its questions were forgotten by itself.
        std::vector<std::string> ids;
        for (const auto& [id, user] : tenant.conversations[event.conversation]) ids.push_back(id);
        return ForgetEvents(tenant, ids, !ids.empty(), applied);
      }
      default:
        return;
    }
    if (applied.step) Fail("receipt", "takes no step: " + applied.summary);
  }

  // ---- Questions --------------------------------------------------------------------------------

  void Ask(Tenant& tenant, const LogEvent& event, const Outcome& outcome) {
    Asked& asked = tenant.asked[event.id];
    asked.asker = event.user;
    asked.events = {event.id};
    asked.off = true;
    const auto* response = std::get_if<Response>(&outcome.what);
    if (response == nullptr) return Fail("outcome", "should be answered, got " + Shown(outcome));
    const auto chat = chats_.find(response->text);
    if (chat == chats_.end()) return Fail("outcome", "an answer from nowhere: " + response->text);
    asked.off = false;
    asked.answer = response->text;
    for (const ChatMessage& message : chat->second) {
      asked.words.merge(MarkedWords(message.text));
    }
    // The system prompts of the model have no marked words, so all that is found was shown.
    std::set<std::pair<std::string, uint32_t>> shown;
    for (const std::string& word : asked.words) {
      if (tenant.forgotten.contains(word) && event.text.find(word) == std::string::npos) {
        Fail("forgotten words shown", word + " stands in the chat: " + chat->second.back().text);
      }
      if (word.starts_with("zq")) {
        const std::string letter = Letters(static_cast<uint64_t>(event.tenant.back() - '0'));
        if (word.find("x" + letter + "x") == std::string::npos) {
          Fail("another tenant's words", word + " stands in the chat");
        }
        continue;
      }
      if (tenant.replaced_words.contains(word)) {
        Fail("replaced words shown", word + " stands in the chat: " + chat->second.back().text);
      }
      if (word.starts_with("ze")) {
        const auto of = tenant.event_of.find(word);
        if (of == tenant.event_of.end()) {
          return Fail("another tenant's words", word + " stands in the chat");
        }
        asked.events.merge(EventsOf(tenant, of->second));
        continue;
      }
      if (!tenant.holders.contains(word)) {
        return Fail("another tenant's words", word + " stands in the chat");
      }
      bool is_held = false;
      for (const std::string& id : tenant.holders.at(word)) {
        const DocumentState& document = tenant.documents.at(id);
        if (!document.live || document.word != word) continue;
        is_held = true;
        shown.emplace(id, document.version);
        asked.documents.insert(id);
        if (!document.owner.empty()) asked.owners.insert(document.owner);
      }
      if (!is_held) Fail("gone document shown", word + " stands in the chat");
    }
    CheckCitations(tenant, event, *response, shown);
    CheckServed(tenant, *response);
  }

  void CheckCitations(const Tenant& tenant, const LogEvent& event, const Response& response,
                      const std::set<std::pair<std::string, uint32_t>>& shown) {
    std::set<std::pair<std::string, uint32_t>> cited;
    for (const Citation& citation : response.citations) {
      cited.emplace(citation.document_id, citation.version);
      const auto document = tenant.documents.find(citation.document_id);
      const std::string name =
          citation.document_id + " version " + std::to_string(citation.version);
      if (document == tenant.documents.end() || !document->second.live) {
        Fail("gone document cited", "cites " + name + ", which is gone");
      } else if (document->second.version != citation.version) {
        Fail("old document cited",
             "cites " + name + ", the newest is " + std::to_string(document->second.version));
      }
    }
    if (cited != shown) {
      Fail("citations", "cites" + Listed(cited) + ", shown were" + Listed(shown) + ": " +
                            chats_.at(response.text).back().text);
    }
    if (world_.prompt_tokens_max < 1024) return;
    for (const auto& [id, document] : tenant.documents) {
      if (!document.live || event.text.find(LookUpWord(document.word)) == std::string::npos)
        continue;
      if (!cited.contains({id, document.version})) {
        Fail("document not found", id + " holds what is asked for and is not cited");
      }
    }
  }

  static std::string Listed(const std::set<std::pair<std::string, uint32_t>>& documents) {
    std::string text;
    for (const auto& [id, version] : documents) text += " " + id + "/" + std::to_string(version);
    return text.empty() ? " nothing" : text;
  }

  void CheckServed(Tenant& tenant, const Response& response) {
    std::set<Version> allowed;
    if (tenant.held) {
      allowed = tenant.held->before;
      if (tenant.held->perhaps || tenant.held->events >= tenant.held->wait) {
        allowed.insert(tenant.held->version);
      }
    } else if (tenant.serve) {
      allowed = {*tenant.serve};
    } else {
      return;
    }
    const Version version = response.adapter_version;
    if (!allowed.contains(version)) {
      std::string list;
      for (const Version each : allowed) list += " " + std::to_string(each);
      return Fail("served version",
                  "version " + std::to_string(version) + " serves, should be" + list);
    }
    if (version == 0) {
      if (response.adapter_digest != "base") Fail("digest", "version 0 is not the base model");
      return;
    }
    const PathIds path = PathOf(tenant, tenant.versions.at(version).place);
    Learnt learnt{events_[at_].tenant, {}, {}, {}};
    for (const size_t place : path) {
      const Place& each = tenant.places[place];
      if (each.sort == Place::Sort::kUnknown) return;
      if (each.sort == Place::Sort::kImport) {
        learnt.uri = each.uri;
        learnt.sha256 = each.sha256;
      } else {
        learnt.lessons.push_back(each.lesson);
      }
    }
    if (!path.empty()) claims_.push_back({at_, response.adapter_digest, std::move(learnt)});
  }

  // ---- The tree ---------------------------------------------------------------------------------

  void MakeVersion(Tenant& tenant, const Applied& applied, std::optional<Version> parent) {
    const Version version = *applied.makes_version;
    if (version != tenant.made + 1) {
      Fail("receipt", "makes version " + std::to_string(version) + " after version " +
                          std::to_string(tenant.made));
    }
    tenant.made = version;
    tenant.unpublished = 0;
    tenant.versions[version] = {tenant.head, parent, false};
    tenant.kept.push_back(version);
    while (tenant.kept.size() > world_.versions_kept) tenant.kept.pop_front();
    if (tenant.held) {
      tenant.held->version = version;
    } else if (!tenant.is_unclear) {
      tenant.serve = version;
    }
  }

  // The receipt must, or must not, speak of a new version; true: it does.
  bool ExpectVersion(const Applied& applied, bool wanted) {
    if (applied.makes_version.has_value() != wanted) {
      Fail("receipt", std::string(wanted ? "should make a version: " : "makes no version: ") +
                          applied.summary);
    }
    return applied.makes_version.has_value();
  }

  bool IsKept(const Tenant& tenant, Version version, bool certainly) const {
    if (version == 0) return true;
    const auto made = tenant.versions.find(version);
    if (made == tenant.versions.end() || made->second.dropped) return false;
    if (!certainly && !IsKnown(tenant, PathOf(tenant, made->second.place))) return true;
    const bool by_count =
        std::find(tenant.kept.begin(), tenant.kept.end(), version) != tenant.kept.end();
    if (!certainly) return by_count || tenant.was_held;
    if (!IsKnown(tenant, PathOf(tenant, made->second.place))) return false;
    return by_count && version + world_.versions_kept > tenant.made &&
           (!tenant.was_held || world_.versions_kept >= 1000);
  }

  void RollBack(Tenant& tenant, const LogEvent& event, const Applied& applied) {
    const bool done = applied.step.has_value();
    std::optional<Version> to = event.version;
    if (!to) {
      const bool unclear = tenant.held || !tenant.serve;
      const auto serving = unclear ? tenant.versions.end() : tenant.versions.find(*tenant.serve);
      if (!unclear && serving == tenant.versions.end()) {  // the base grew from nothing
        if (done) Fail("receipt", "there is nothing to roll back to: " + applied.summary);
        return;
      }
      if (unclear || !serving->second.parent) {
        if (done) LoseTrack(tenant);
        return;
      }
      to = serving->second.parent;
    }
    if (IsKept(tenant, *to, true) && !done) {
      Fail("receipt", "version " + std::to_string(*to) + " is kept, got " + applied.summary);
    }
    if (!IsKept(tenant, *to, false) && done) {
      Fail("receipt", "version " + std::to_string(*to) + " is not kept, got " + applied.summary);
    }
    if (done && !failure_) Return(tenant, *to, applied);
  }

  // To a version's place, past what was replaced meanwhile.
  void Return(Tenant& tenant, Version to, const Applied& applied) {
    const bool was_known = IsKnown(tenant, PathOf(tenant, tenant.head));
    const std::set<size_t> before = WayTo(tenant, tenant.head);
    MoveTo(tenant, to);
    const PathIds path = PathOf(tenant, tenant.head);
    std::set<size_t> passed;
    for (const size_t place : path) {
      if (tenant.places[place].replaced && !before.contains(place)) passed.insert(place);
    }
    if (!IsKnown(tenant, path) || (!was_known && !passed.empty())) {
      if (applied.summary.find("without") != std::string::npos) Lose(tenant, {}, applied);
      return;
    }
    if (passed.empty()) {
      ExpectVersion(applied, false);
      return;
    }
    RemoveAndDrop(tenant, passed, {});
    FallBack(tenant, path, PathOf(tenant, tenant.head), {}, applied);
  }

  // The head has changed in a way that the model does not know; a lesson comes behind it.
  void Lose(Tenant& tenant, std::optional<Place> lesson, const Applied& applied) {
    LoseTrack(tenant);
    if (lesson) {
      tenant.unpublished = lesson->counts ? 1 : 0;
      AddPlace(tenant, *std::move(lesson));
    }
    if (!applied.makes_version) return;
    tenant.is_unclear = true;
    MakeVersion(tenant, applied, std::nullopt);
  }

  // Whether it was accepted.
  bool Import(Tenant& tenant, const LogEvent& event, const Outcome& outcome) {
    const Applied* applied = ExpectReceipt(outcome);
    if (applied == nullptr || !ExpectVersion(*applied, true)) return false;
    Place place;
    place.sort = Place::Sort::kImport;
    place.uri = event.uri;
    place.sha256 = event.sha256;
    const std::optional<Version> parent =
        tenant.held ? std::nullopt : std::optional<Version>(tenant.serve);
    AddPlace(tenant, std::move(place));
    if (tenant.held) tenant.held->perhaps = true;
    MakeVersion(tenant, *applied, parent);
    return true;
  }

  // ---- Lessons ----------------------------------------------------------------------------------

  // Whether an offer of this user, behind those before `end`, is within the user's share.
  bool MayTeach(const std::vector<Offer>& offers, size_t end, const std::string& user) const {
    if (world_.lead_lessons == 0) return true;
    std::map<std::string, size_t> admitted;
    admitted[user] = 0;
    for (size_t i = end - std::min<size_t>(end, world_.user_window); i < end; ++i) {
      admitted[offers[i].user] += offers[i].admitted ? 1 : 0;
    }
    if (admitted.size() == 1) return true;
    double lessons = 0;
    double usual = 0;  // of who taught one of the others' lessons, drawn at random
    for (const auto& [one, count] : admitted)
      lessons += one == user ? 0 : static_cast<double>(count);
    for (const auto& [one, count] : admitted) {
      if (one != user && count > 0)
        usual += static_cast<double>(count) * static_cast<double>(count) / lessons;
    }
    return static_cast<double>(admitted[user]) + 1 <=
           static_cast<double>(world_.lead_lessons) + usual + 1e-9;
  }

  // What the user has said of the same answer before, by the events' ids.
  std::vector<std::string> Earlier(Tenant& tenant, const LogEvent& event, bool& too_many,
                                   bool& signals_only) const {
    if (event.kind == Kind::kExample || event.user.empty()) return {};
    std::vector<std::string>& said =
        tenant.said[event.user][event.query_id + "\n" + event.text + "\n" + event.answer];
    std::vector<std::string> earlier = said;
    too_many = earlier.size() > world_.replacements_max;
    const bool outspoken =
        !event.correction.empty() || (!event.rating.empty() && event.rating != "null");
    signals_only = !too_many && !outspoken && event.rating != "null" && !said.empty() &&
                   tenant.outspoken.contains(said.back());
    if (too_many || signals_only) return {};
    if (outspoken) tenant.outspoken.insert(event.id);
    std::erase(earlier, "");
    if (event.rating != "null" || !earlier.empty()) said.push_back(event.id);
    for (const std::string& id : earlier) tenant.replaced_words.insert(EventWord(id));
    return earlier;
  }

  void Teach(Tenant& tenant, const LogEvent& event, const Applied& applied) {
    const bool neutral = event.rating.empty() || event.rating == "0" || event.rating == "null";
    const bool teaches =
        event.kind == Kind::kExample || !neutral || event.clicked || !event.correction.empty();
    bool too_many = false;
    bool signals_only = false;
    const std::vector<std::string> earlier = Earlier(tenant, event, too_many, signals_only);
    if (signals_only != (applied.summary.find("signals do not replace") != std::string::npos)) {
      Fail("signals behind a rating", "got " + applied.summary);
    }
    if (too_many != (applied.summary.find("as often as") != std::string::npos)) {
      Fail("replaced too often", "got " + applied.summary);
    }
    if (event.rating == "null" && earlier.empty() && !too_many && !tenant.frozen &&
        applied.summary.find("nothing to take back") == std::string::npos) {
      Fail("receipt", "there is nothing to take back: " + applied.summary);
    }
    if (too_many || signals_only || tenant.frozen || (!teaches && earlier.empty())) {
      if (applied.step) Fail("receipt", "takes no step: " + applied.summary);
      return;
    }
    const bool admitted = OfferOf(tenant, event, earlier, teaches);
    std::optional<Place> lesson = Place();
    lesson->events = EventsOf(tenant, event.id);
    lesson->offer = tenant.offers_made;
    lesson->event = at_;
    lesson->counts = admitted;
    lesson->lesson = {tenant.system.value_or(default_system_),
                      event.text,
                      event.answer,
                      event.rating,
                      event.correction,
                      event.clicked};
    if (event.kind == Kind::kExample) lesson->lesson.rating = "1";
    if (!teaches) lesson.reset();
    if (lesson && event.kind == Kind::kFeedback && !TakeUp(tenant, event, applied, *lesson)) {
      lesson.reset();
    }
    if (lesson && !event.user.empty()) lesson->people.insert(event.user);
    if (!Withdraw(tenant, earlier, lesson, applied)) Learn(tenant, std::move(lesson), applied);
  }

  // The event's offer, which takes the place of one of an earlier word; whether it is admitted.
  bool OfferOf(Tenant& tenant, const LogEvent& event, const std::vector<std::string>& earlier,
               bool teaches) {
    const auto before =
        std::find_if(tenant.offers.begin(), tenant.offers.end(), [&](const Offer& offer) {
          return std::any_of(earlier.begin(), earlier.end(),
                             [&](const std::string& id) { return offer.events.contains(id); });
        });
    const bool replaces = before != tenant.offers.end();
    if (!teaches) {
      if (replaces) tenant.offers.erase(before);
      return false;
    }
    const bool admitted =
        replaces ? before->admitted : MayTeach(tenant.offers, tenant.offers.size(), event.user);
    const Offer offer = {++tenant.offers_made, event.user, admitted, EventsOf(tenant, event.id)};
    if (replaces) {
      *before = offer;
    } else {
      tenant.offers.push_back(offer);
    }
    return admitted;
  }

  // A lesson behind the head, or none.
  void Learn(Tenant& tenant, std::optional<Place> lesson, const Applied& applied,
             bool rebuilds = false) {
    const bool admitted = lesson && lesson->counts;
    if (lesson) AddPlace(tenant, *std::move(lesson));
    if (applied.step.has_value() != (admitted || rebuilds)) {
      return Fail("share", std::string(admitted || rebuilds ? "should be" : "should not be") +
                               " a step: " + applied.summary);
    }
    const bool makes = admitted && ++tenant.unpublished >= world_.publish_every;
    const std::optional<Version> parent =
        tenant.held ? std::optional<Version>(tenant.held->version) : tenant.serve;
    if (ExpectVersion(applied, makes) && makes) MakeVersion(tenant, applied, parent);
  }

  // What becomes of the lessons of earlier words. True: the head has changed, and the lesson that
  // replaces them is behind it.
  bool Withdraw(Tenant& tenant, const std::vector<std::string>& earlier,
                const std::optional<Place>& lesson, const Applied& applied) {
    const PathIds path = PathOf(tenant, tenant.head);
    const bool known = IsKnown(tenant, path);
    std::set<size_t> newest, leaving;
    for (auto place = path.rbegin(); place != path.rend(); ++place) {
      const bool is_lesson = tenant.places[*place].sort == Place::Sort::kLesson;
      if (is_lesson && newest.size() < world_.replace_lessons_max) newest.insert(*place);
    }
    bool lost = false;
    for (size_t i = 1; i < tenant.places.size(); ++i) {
      Place& place = tenant.places[i];
      const bool is_lesson = place.sort == Place::Sort::kLesson && !place.gone;
      const std::string id = events_[place.event].id;
      if (!is_lesson || std::find(earlier.begin(), earlier.end(), id) == earlier.end()) continue;
      const bool at_once =
          applied.summary.find(id + "'s lesson: unlearnt at once") != std::string::npos;
      if (!place.counts || newest.contains(i)) {
        leaving.insert(i);
      } else if (!known && at_once) {
        leaving.insert(i);
        lost = true;
      } else {
        place.replaced = true;
      }
      if (place.counts && known && newest.contains(i) != at_once) {
        Fail("replaced", "should " + std::string(at_once ? "not " : "") +
                             "be unlearnt at once: " + id + ", got " + applied.summary);
      }
    }
    RemoveAndDrop(tenant, leaving, {});
    const PathIds head = PathOf(tenant, tenant.head);
    if (!known && (lost || head != path)) {
      Lose(tenant, lesson, applied);
      return true;
    }
    if (head == path) return false;
    FallBack(tenant, path, head, lesson, applied);
    return true;
  }

  // What was shown to whom, of feedback on an answer of the program's. False: no lesson.
  bool TakeUp(Tenant& tenant, const LogEvent& event, const Applied& applied, Place& place) {
    const Asked& asked = tenant.asked.at(event.query_id);
    const bool off = applied.summary.find("not on record") != std::string::npos;
    if (off) {
      if (!asked.off && !asked.maybe_off) {
        Fail("record", "the answer should be on record: " + applied.summary);
      }
      return false;
    }
    if (asked.off && applied.summary.starts_with("training step")) {
      Fail("record", "learns from an answer that should not be on record: " + applied.summary);
    }
    if (asked.off) return false;
    const std::vector<ChatMessage>& chat = chats_.at(asked.answer);
    std::string turns;
    place.lesson.system.clear();
    for (const ChatMessage& message : chat) {
      if (&message == &chat.front() && message.role == "system") {
        place.lesson.system = message.text;
      } else {
        turns += (turns.empty() ? "" : "\n" + message.role + "\n") + message.text;
      }
    }
    place.lesson.query = turns;
    place.lesson.completion = asked.answer;
    place.people = asked.owners;
    place.documents = asked.documents;
    place.events.insert(asked.events.begin(), asked.events.end());
    if (!asked.asker.empty()) place.people.insert(asked.asker);
    for (const auto& [user, words] : tenant.words_of) {
      for (const std::string& word : words) {
        if (asked.words.contains(word)) place.people.insert(user);
      }
    }
    return true;
  }

  // ---- Forgetting -------------------------------------------------------------------------------

  void Forget(Tenant& tenant, const LogEvent& event, const Applied& applied) {
    std::set<std::string> documents;
    const std::string user = event.kind == Kind::kForgetUser ? event.document_id : "";
    if (user.empty()) documents.insert(event.document_id);
    for (const auto& [id, document] : tenant.documents) {
      if (event.documents && document.live && document.owner == user) documents.insert(id);
    }
    for (const std::string& id : documents) {
      const auto document = tenant.documents.find(id);
      if (document == tenant.documents.end()) continue;
      document->second.live = false;
      for (const std::string& word : document->second.words) {
        // With a user's documents goes what they hold now and nobody else sent; what another
        // document held, it may hold still.
        const bool goes = user.empty() || (word == document->second.word &&
                                           tenant.owners.at(word) == std::set<std::string>{user});
        if (goes && tenant.holders.at(word).size() == 1) tenant.forgotten.insert(word);
      }
    }
    if (!user.empty()) {
      tenant.forgotten.insert(tenant.words_of[user].begin(), tenant.words_of[user].end());
    }
    ForgetRecords(tenant, user, documents);
    for (auto& [conversation, questions] : tenant.conversations) {
      std::erase_if(questions,
                    [&](const auto& question) { return !user.empty() && question.second == user; });
    }
    ForgetLessons(tenant, user, user.empty() ? documents : std::set<std::string>(), {}, applied);
  }

  // Lessons or questions, one after the other.
  void ForgetEvents(Tenant& tenant, const std::vector<std::string>& ids, bool known,
                    const Applied& applied) {
    if (!known && !applied.summary.starts_with("nothing forgotten")) {
      Fail("receipt", "there is nothing of it to forget: " + applied.summary);
    }
    for (const std::string& id : ids) {
      for (const auto& [word, event] : tenant.event_of) {
        if (EventsOf(tenant, event).contains(id)) tenant.forgotten.insert(word);
      }
      for (auto& [query, asked] : tenant.asked) asked.off |= asked.events.contains(id);
      for (auto& [conversation, questions] : tenant.conversations) {
        std::erase_if(questions, [&](const auto& question) { return question.first == id; });
      }
    }
    ForgetLessons(tenant, "", {}, ids, applied);
  }

  static void ForgetRecords(Tenant& tenant, const std::string& user,
                            const std::set<std::string>& documents) {
    for (auto& [id, asked] : tenant.asked) {
      if (!user.empty() && asked.asker == user) asked.off = true;
      for (const std::string& word : asked.words) {
        if (tenant.forgotten.contains(word)) asked.off = true;
      }
      for (const std::string& document : documents) {
        if (asked.documents.contains(document)) asked.maybe_off = true;
      }
      // Documents of theirs may stay, so the promises leave open whether such an answer does.
      if (asked.owners.contains(user)) asked.maybe_off = true;
    }
  }

  void ForgetLessons(Tenant& tenant, const std::string& user,
                     const std::set<std::string>& documents, const std::vector<std::string>& events,
                     const Applied& applied) {
    const PathIds head_before = PathOf(tenant, tenant.head);
    std::set<size_t> leaving;
    for (size_t i = 1; i < tenant.places.size(); ++i) {
      Place& place = tenant.places[i];
      bool theirs = !user.empty() && place.people.contains(user);
      for (const std::string& document : documents) theirs |= place.documents.contains(document);
      for (const std::string& event : events) theirs |= place.events.contains(event);
      if (!theirs || place.gone) continue;
      leaving.insert(i);
      place.offer = 0;
    }
    std::set<size_t> admitted = AdmittedAfterAll(tenant, user, "");
    tenant.said.erase(user);
    for (const std::string& event : events) {
      ForgetSaid(tenant, event);
      admitted.merge(AdmittedAfterAll(tenant, "", event));
    }
    RemoveAndDrop(tenant, leaving, admitted);
    const PathIds head = PathOf(tenant, tenant.head);
    if (!IsKnown(tenant, head)) {
      const bool makes = applied.makes_version.has_value();
      if (applied.step) LoseTrack(tenant);
      if (makes) tenant.is_unclear = true;
      if (makes) MakeVersion(tenant, applied, std::nullopt);
      return;
    }
    if (head == head_before) {
      if (ExpectVersion(applied, false)) return;
      if (applied.step) Fail("receipt", "takes no step: " + applied.summary);
      if (tenant.held) {
        for (const Version version : tenant.held->before) {
          if (version != 0 && tenant.versions[version].dropped) tenant.held->before.insert(0);
        }
      }
      return;
    }
    FallBack(tenant, head_before, head, {}, applied);
  }

  static void ForgetSaid(Tenant& tenant, const std::string& event) {
    for (auto& [who, answers] : tenant.said) {
      for (auto& [answer, events] : answers) {
        // A forgotten word has none, but is counted as long as there are others.
        std::replace(events.begin(), events.end(), event, std::string());
        const bool none = std::count(events.begin(), events.end(), "") ==
                          static_cast<std::ptrdiff_t>(events.size());
        if (none || (!event.empty() && answer.starts_with(event + "\n"))) events.clear();
      }
    }
  }

  // Places leave or are admitted; versions with other lessons than before are dropped.
  static void RemoveAndDrop(Tenant& tenant, const std::set<size_t>& leaving,
                            const std::set<size_t>& admitted) {
    std::map<Version, PathIds> before;
    for (const auto& [version, made] : tenant.versions)
      before[version] = PathOf(tenant, made.place);
    Remove(tenant, leaving, admitted);
    for (auto& [version, made] : tenant.versions) {
      if (PathOf(tenant, made.place) != before[version]) made.dropped = true;
    }
    std::erase_if(tenant.kept, [&](Version version) { return tenant.versions[version].dropped; });
  }

  // What serves once the head has lost lessons; a lesson of the same event comes behind it.
  void FallBack(Tenant& tenant, const PathIds& before, const PathIds& head,
                std::optional<Place> lesson, const Applied& applied) {
    tenant.held.reset();
    tenant.unpublished = 0;
    if (head.empty()) {
      tenant.serve = 0;  // the head stays: offers on its way may be admitted after all
      return Learn(tenant, std::move(lesson), applied, true);
    }
    std::set<Version> others = {0};
    Version nearest = 0;
    size_t nearest_lessons = 0;
    for (const Version version : tenant.kept) {
      const PathIds path = PathOf(tenant, tenant.versions[version].place);
      const bool on_path = path.size() <= head.size() && !path.empty() &&
                           std::equal(path.begin(), path.end(), head.begin());
      if (on_path && path.size() >= nearest_lessons) {
        nearest = version;
        nearest_lessons = path.size();
      }
    }
    if (!tenant.kept.empty()) others = {nearest, tenant.kept.back()};
    if (nearest_lessons == head.size() &&
        (IsKept(tenant, nearest, true) || !applied.makes_version)) {
      tenant.serve = nearest;
      return Learn(tenant, std::move(lesson), applied, true);
    }
    if (lesson) AddPlace(tenant, *std::move(lesson));
    if (!ExpectVersion(applied, true)) return;
    const auto first = std::mismatch(before.begin(), before.end(), head.begin(), head.end());
    const auto again = static_cast<size_t>(head.end() - first.second);
    MakeVersion(tenant, applied, std::nullopt);
    if (again < 4) return;
    tenant.held = Held{tenant.made, others, again / 4, 0, 0, false};
    // The event itself is no further one.
    tenant.held->events = tenant.held->accepted = static_cast<size_t>(-1);
    tenant.was_held = true;
  }

  // Offers that nothing but the share of what is forgotten had kept out become lessons.
  static std::set<size_t> PlacesOf(const Tenant& tenant, const Offer& offer) {
    std::set<size_t> places;
    for (size_t i = 1; i < tenant.places.size(); ++i) {
      if (tenant.places[i].offer == offer.number && offer.number != 0) places.insert(i);
    }
    return places;
  }
  std::set<size_t> AdmittedAfterAll(Tenant& tenant, const std::string& user,
                                    const std::string& event) const {
    std::set<size_t> places;
    const size_t removed = std::erase_if(tenant.offers, [&](const Offer& offer) {
      return (!user.empty() && offer.user == user) || offer.events.contains(event);
    });
    if (removed == 0) return places;
    for (size_t i = 0; i < tenant.offers.size(); ++i) {
      Offer& offer = tenant.offers[i];
      if (offer.admitted || !MayTeach(tenant.offers, i, offer.user)) continue;
      offer.admitted = true;
      places.merge(PlacesOf(tenant, offer));
    }
    return places;
  }

  const World& world_;
  const std::string default_system_;
  const std::vector<LogEvent>& events_;
  const std::vector<Outcome>& outcomes_;
  const ShownChats& chats_;
  size_t at_ = 0;
  std::map<std::string, Tenant> tenants_;
  std::optional<Failure> failure_;
  std::vector<Claim> claims_;
  std::vector<std::set<std::string>> forgotten_after_;
};

}  // namespace nudge::model
