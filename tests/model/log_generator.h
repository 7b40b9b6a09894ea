// Random event logs of small worlds, for the suite that holds the program against a model of it:
// seed -> [LogGenerator] -> World, LogEvents.
//
// A world is a configuration and a mood: which kinds of event it has at all, and how often. Most
// worlds lack some kinds, so that what one fault hides, another world shows. Each user has words of
// their own and takes new ones after each forget, each version of a document and each event that
// teaches has one; so whose words a text holds can be told from the text alone. Function of the
// seed; one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "stages/hash.h"

namespace nudge::model {

enum class Kind : uint8_t {
  kUpsert,
  kDelete,
  kQuery,
  kFeedback,
  kInline,
  kExample,
  kPromptUpsert,
  kPromptDelete,
  kRollback,
  kReset,
  kFreeze,
  kUnfreeze,
  kImport,
  kForgetUser,
  kForgetDocument,
  kForgetEvent,
  kForgetConversation,
  kGarbage,
};
inline constexpr size_t kKinds = 18;
inline constexpr const char* kKindNames[kKinds] = {"upsert",
                                                   "delete",
                                                   "query",
                                                   "feedback",
                                                   "inline",
                                                   "example",
                                                   "prompt",
                                                   "prompt_delete",
                                                   "rollback",
                                                   "reset",
                                                   "freeze",
                                                   "unfreeze",
                                                   "import",
                                                   "forget_user",
                                                   "forget_document",
                                                   "forget_event",
                                                   "forget_conversation",
                                                   "garbage"};

struct LogEvent {
  Kind kind = Kind::kGarbage;
  std::string id, tenant, user;
  std::string document_id;
  std::string text;          // a document's, a question, a system prompt
  std::string answer;        // of an example or inline feedback
  std::string query_id;      // what feedback is about; the event that is forgotten
  std::string turn;          // the user's before a question; empty: none
  std::string conversation;  // a question's, or the one that is forgotten; may be empty
  std::string prompt_id;     // a prompt's own, or the one that a question wants
  std::string rating;        // as JSON; empty: none
  bool clicked = false;
  std::string correction;
  std::string comment;
  bool too_long = false;  // a question whose answer may take more than the window
  std::optional<uint32_t> version;
  std::string uri, sha256;
  std::string whose;       // of a command: the user whose adapter it is of; empty: nobody's
  bool documents = false;  // of a forgotten user: theirs go too
  std::string data;        // as sent
  std::string line;        // as sent
};

// What the program at hand can do, found out by asking it.
struct Abilities {
  bool imports = false;
  bool forgets_documents = false;
};

struct ImportFile {
  std::string uri, sha256;
};

struct World {
  uint64_t seed = 0;
  size_t events = 60;
  size_t tenants = 2;
  size_t users = 3;
  uint32_t publish_every = 1;
  uint32_t versions_kept = 1000;
  uint32_t lead_lessons = 0;
  uint32_t user_window = 64;
  uint32_t few_shots = 0;
  uint32_t dimension = 64;
  bool corrections_as_examples = false;
  bool second_preset = false;
  uint32_t prompt_tokens_max = 1024;
  uint32_t cache = 1000;
  uint32_t chunk_chars = 600;
  uint32_t cut_every = 7;
  uint32_t replace_lessons_max = 32;
  uint32_t replacements_max = 8;
  uint32_t relearn_per_event = 4;
  bool by_user = false;  // users have adapters of their own
  uint32_t weights[kKinds] = {};
};

// ---- Words --------------------------------------------------------------------------------------

// Letters alone, so that no tokenizer takes a word apart; none is part of another.
inline std::string Letters(uint64_t number) {
  std::string text;
  do {
    text += static_cast<char>('a' + number % 20);
    number /= 20;
  } while (number > 0);
  return text;
}
inline std::string UserWord(const std::string& tenant, const std::string& user, size_t times) {
  return "zq" + user + "x" + Letters(static_cast<uint64_t>(tenant.back() - '0')) + "x" +
         Letters(times) + "z";
}
inline std::string DocumentWord(uint64_t number) {
  return "zd" + Letters(number) + "z";
}
// Of an event that teaches, by its id.
inline std::string EventWord(const std::string& id) {
  return "ze" + Letters(std::stoull(id.substr(1))) + "z";
}
// What questions ask for: it is in the document's version, too, but is not counted as its word,
// since it is in the question.
inline std::string LookUpWord(const std::string& document_word) {
  return "k" + document_word.substr(1);
}

// The words of users, documents and events in a text.
inline std::set<std::string> MarkedWords(std::string_view text) {
  std::set<std::string> words;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin;
    while (end < text.size() && text[end] >= 'a' && text[end] <= 'z') ++end;
    const std::string_view word = text.substr(begin, end - begin);
    if (word.size() > 3 && word.ends_with('z') &&
        (word.starts_with("zq") || word.starts_with("zd") || word.starts_with("ze"))) {
      words.emplace(word);
    }
    begin = end + 1;
  }
  return words;
}

// ---- Lines --------------------------------------------------------------------------------------

// Texts are ASCII without quotation marks, so that none needs an escape.
inline std::string Member(const std::string& key, const std::string& text) {
  return "\"" + key + "\":\"" + text + "\"";
}

inline std::string DataOf(const LogEvent& event) {
  const auto action = [&](const std::string& name, const std::string& more = {}) {
    return "{" + Member("action", name) + more +
           (event.whose.empty() ? "" : "," + Member("user", event.whose)) + "}";
  };
  switch (event.kind) {
    case Kind::kUpsert:
      return "{" + Member("document_id", event.document_id) + "," + Member("text", event.text) +
             "}";
    case Kind::kDelete:
    case Kind::kForgetDocument:
      return "{" + Member("document_id", event.document_id) + "}";
    case Kind::kQuery: {
      std::string options;
      if (!event.prompt_id.empty()) options = Member("prompt_id", event.prompt_id);
      if (event.too_long)
        options += std::string(options.empty() ? "" : ",") + "\"max_tokens\":4096";
      const std::string turns = event.turn.empty()
                                    ? ""
                                    : ",\"messages\":[{\"role\":\"user\"," +
                                          Member("content", event.turn) +
                                          "},{\"role\":\"assistant\",\"content\":\"noted\"}]";
      const std::string conversation =
          event.conversation.empty() ? "" : "," + Member("conversation_id", event.conversation);
      return "{" + Member("text", event.text) + turns + conversation +
             (options.empty() ? "" : ",\"options\":{" + options + "}") + "}";
    }
    case Kind::kFeedback:
    case Kind::kInline: {
      std::string data = event.kind == Kind::kFeedback
                             ? Member("query_id", event.query_id)
                             : "\"inline\":{" + Member("query", event.text) + "," +
                                   Member("completion", event.answer) + "}";
      if (!event.rating.empty()) data += ",\"rating\":" + event.rating;
      if (!event.correction.empty()) data += "," + Member("correction", event.correction);
      if (!event.comment.empty()) data += "," + Member("comment", event.comment);
      if (event.clicked) data += ",\"signals\":{\"clicked\":true}";
      return "{" + data + "}";
    }
    case Kind::kExample:
      return "{" + Member("query", event.text) + "," + Member("answer", event.answer) + "}";
    case Kind::kPromptUpsert:
      return "{" + Member("prompt_id", event.prompt_id) + "," + Member("system", event.text) + "}";
    case Kind::kPromptDelete:
      return "{" + Member("prompt_id", event.prompt_id) + "}";
    case Kind::kRollback:
      return action("rollback",
                    event.version ? ",\"version\":" + std::to_string(*event.version) : "");
    case Kind::kReset:
      return action("reset");
    case Kind::kFreeze:
      return action("freeze");
    case Kind::kUnfreeze:
      return action("unfreeze");
    case Kind::kImport:
      return action("import",
                    "," + Member("uri", event.uri) + "," + Member("sha256", event.sha256));
    case Kind::kForgetUser:
      return "{" + Member("user", event.document_id) +
             (event.documents ? ",\"documents\":true" : "") + "}";
    case Kind::kForgetEvent:
      return "{" + Member("event_id", event.query_id) + "}";
    case Kind::kForgetConversation:
      return "{" + Member("conversation_id", event.conversation) + "}";
    case Kind::kGarbage:
      break;
  }
  return {};
}

inline std::string TypeOf(Kind kind) {
  switch (kind) {
    case Kind::kUpsert:
      return "nudge.document.upsert";
    case Kind::kDelete:
      return "nudge.document.delete";
    case Kind::kQuery:
      return "nudge.query";
    case Kind::kFeedback:
    case Kind::kInline:
      return "nudge.feedback";
    case Kind::kExample:
      return "nudge.example";
    case Kind::kPromptUpsert:
      return "nudge.prompt.upsert";
    case Kind::kPromptDelete:
      return "nudge.prompt.delete";
    case Kind::kForgetUser:
    case Kind::kForgetDocument:
    case Kind::kForgetEvent:
    case Kind::kForgetConversation:
      return "nudge.forget";
    default:
      return "nudge.adapter";
  }
}

// Fills in data and line.
inline LogEvent Written(LogEvent event) {
  event.data = DataOf(event);
  event.line = "{\"specversion\":\"1.0\"," + Member("id", event.id) + "," +
               Member("source", "/model") + "," + Member("type", TypeOf(event.kind)) + "," +
               Member("tenant", event.tenant) +
               (event.user.empty() ? "" : "," + Member("user", event.user)) +
               ",\"data\":" + event.data + "}";
  return event;
}

// ---- Generator ----------------------------------------------------------------------------------

class LogGenerator {
 public:
  // `without`: kinds that no world has.
  LogGenerator(uint64_t seed, Abilities abilities, std::vector<ImportFile> files,
               const std::set<std::string>& without = {})
      : seed_(seed), abilities_(abilities), files_(std::move(files)) {
    MakeWorld(without);
  }

  const World& world() const { return world_; }

  std::vector<LogEvent> All() {
    std::vector<LogEvent> events;
    while (events.size() < world_.events) events.push_back(Next(events));
    return events;
  }

 private:
  struct Tenant {
    std::string name;
    std::vector<std::string> queries;                            // ids, the newest last
    std::vector<std::string> lessons;                            // ids, the newest last
    std::vector<LogEvent> said;                                  // feedback that can be replaced
    std::vector<std::pair<std::string, std::string>> questions;  // user and text
    std::map<std::string, size_t> times_forgotten;               // by user
    std::map<std::string, std::string> word_of;  // of documents, the newest version's
    std::string gone;  // word of the document that was deleted or forgotten last
    std::vector<std::pair<std::string, std::string>> texts;  // of documents, with their words
    uint32_t versions = 0;                                   // about as many were made
  };

  size_t Pick(size_t count) { return RandomAt(seed_, counter_++) % count; }
  bool Often(size_t one_in) { return Pick(one_in) != 0; }
  bool Seldom(size_t one_in) { return Pick(one_in) == 0; }
  template <class T>
  const T& OneOf(const std::vector<T>& values) {
    return values[Pick(values.size())];
  }

  void MakeWorld(const std::set<std::string>& without) {
    World& world = world_;
    world.seed = seed_;
    world.events = OneOf<size_t>({12, 25, 40, 60, 60, 90});
    world.tenants = OneOf<size_t>({1, 1, 2, 3});
    world.users = 2 + Pick(3);
    world.publish_every = OneOf<uint32_t>({1, 1, 1, 2, 3});
    world.versions_kept = OneOf<uint32_t>({1000, 1000, 8, 3});
    world.lead_lessons = OneOf<uint32_t>({0, 0, 1, 2});
    world.user_window = OneOf<uint32_t>({4, 6, 64});
    world.few_shots = OneOf<uint32_t>({0, 0, 2});
    world.dimension = OneOf<uint32_t>({64, 64, 0});
    world.corrections_as_examples = world.few_shots > 0 && Seldom(2);
    world.second_preset = Seldom(3);
    world.prompt_tokens_max = OneOf<uint32_t>({1024, 1024, 1024, 70});
    world.cache = OneOf<uint32_t>({1000, 1000, 2, 0});
    world.chunk_chars = OneOf<uint32_t>({600, 64});
    world.cut_every = OneOf<uint32_t>({1, 3, 7, 1000});
    world.replace_lessons_max = OneOf<uint32_t>({32, 32, 4, 1, 0});
    world.replacements_max = OneOf<uint32_t>({8, 8, 2, 1, 0});
    const uint32_t usual[kKinds] = {10, 3, 24, 24, 6, 6, 3, 1, 6, 1, 1, 2, 4, 5, 3, 5, 3, 2};
    for (size_t kind = 0; kind < kKinds; ++kind) {
      const bool needed =
          kind == static_cast<size_t>(Kind::kQuery) || kind == static_cast<size_t>(Kind::kFeedback);
      if (without.contains(kKindNames[kind])) continue;
      world.weights[kind] =
          usual[kind] * (needed || Often(3) ? static_cast<uint32_t>(1 + Pick(3)) : 0);
    }
  }

  std::string Vocabulary(size_t count) {
    static const std::vector<std::string> kWords = {"harbour", "pine", "tent", "stove", "lamp",
                                                    "rope",    "boat", "map",  "pier"};
    std::string text;
    for (size_t i = 0; i < count; ++i) text += (i > 0 ? " " : "") + OneOf(kWords);
    return text;
  }

  std::string User() {
    static const std::vector<std::string> kUsers = {"ada", "bob", "cem", "dot"};
    return Seldom(8) ? "" : kUsers[Pick(world_.users)];
  }

  // The user's own word and a blank; nothing of somebody without a name.
  std::string Mark(const Tenant& tenant, const std::string& user) {
    if (user.empty()) return {};
    const auto times = tenant.times_forgotten.find(user);
    return UserWord(tenant.name, user, times == tenant.times_forgotten.end() ? 0 : times->second) +
           " ";
  }

  std::string Document() { return "d" + std::to_string(Pick(4)); }

  Kind PickKind() {
    uint32_t sum = 0;
    for (const uint32_t weight : world_.weights) sum += weight;
    auto left = static_cast<uint32_t>(Pick(sum));
    for (size_t kind = 0; kind < kKinds; ++kind) {
      if (left < world_.weights[kind]) return static_cast<Kind>(kind);
      left -= world_.weights[kind];
    }
    return Kind::kQuery;
  }

  LogEvent Next(const std::vector<LogEvent>& before) {
    // 64 numbers for each event, so that one event's draws do not move those of the next.
    counter_ = 1000 + before.size() * 64;
    if (tenants_.empty()) {
      for (size_t i = 0; i < world_.tenants; ++i) {
        tenants_.push_back({"t" + std::to_string(i), {}, {}, {}, {}, {}, {}, {}, {}, 0});
      }
    }
    if (!before.empty() && Seldom(25)) return Again(before);
    Tenant& tenant = tenants_[Pick(tenants_.size())];
    LogEvent event;
    event.kind = PickKind();
    event.tenant = tenant.name;
    event.user = User();
    event.id = "e" + std::to_string(before.size());
    if (event.kind == Kind::kGarbage) return Garbage(std::move(event));
    Fill(event, tenant);
    return Written(std::move(event));
  }

  // An earlier line once more, sometimes with other content under the same id.
  LogEvent Again(const std::vector<LogEvent>& before) {
    LogEvent event = before[before.size() - 1 - Pick(std::min<size_t>(before.size(), 20))];
    const bool changes = event.kind == Kind::kQuery || event.kind == Kind::kExample;
    if (!changes || Seldom(2)) return event;
    event.text += " " + Vocabulary(1);
    return Written(std::move(event));
  }

  LogEvent Garbage(LogEvent event) {
    static const std::vector<std::string> kLines = {
        "{",
        "not an event",
        "[]",
        "\xff\xfe{}",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.quary","tenant":"t0","data":{}})",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.query","tenant":"t0","data":{}})",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.query","data":{"text":"who"}})",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.forget","tenant":"t0","data":{"user":"ada","document_id":"d0"}})",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.feedback","tenant":"t0","data":{"query_id":"e1","rating":7}})",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.feedback","tenant":"t0","user":"ada","data":{"query_id":"e1","rating":null,"correction":"in short"}})",
        R"({"specversion":"1.0","id":"g","source":"/model","type":"nudge.document.upsert","tenant":"t0","data":{"document_id":"d0","text":" "}})"};
    event.line = OneOf(kLines);
    return event;
  }

  void Fill(LogEvent& event, Tenant& tenant) {
    switch (event.kind) {
      case Kind::kUpsert: {
        event.document_id = Document();
        if (!tenant.texts.empty() && Seldom(6)) {  // what another document holds, or this one
          const auto& [word, text] = OneOf(tenant.texts);
          tenant.word_of[event.document_id] = word;
          event.text = text;
          break;
        }
        const std::string word = DocumentWord(++documents_);
        tenant.word_of[event.document_id] = word;
        // A sentence begins with a capital letter, so that passages are cut between sentences and
        // each holds the word.
        event.text = "The " + word + " " + LookUpWord(word) + " " + Vocabulary(2) + ".";
        for (size_t more = Pick(4); more > 0; --more)
          event.text += " The " + word + " " + Vocabulary(4) + ".";
        tenant.texts.emplace_back(word, event.text);
        break;
      }
      case Kind::kDelete:
      case Kind::kForgetDocument:
        event.document_id = Document();
        if (const auto word = tenant.word_of.find(event.document_id);
            word != tenant.word_of.end()) {
          tenant.gone = word->second;
        }
        break;
      case Kind::kQuery:
        Ask(event, tenant);
        break;
      case Kind::kFeedback:
      case Kind::kInline:
        Judge(event, tenant);
        break;
      case Kind::kExample:
        event.text = Mark(tenant, event.user) + "how long is the " + Vocabulary(1);
        event.answer = Mark(tenant, event.user) + EventWord(event.id) + " " + Vocabulary(3);
        tenant.lessons.push_back(event.id);
        ++tenant.versions;
        break;
      case Kind::kPromptUpsert:
        event.prompt_id = Seldom(2) ? "default" : "p" + std::to_string(Pick(2));
        event.text = "Be a " + Vocabulary(2) + ".";
        break;
      case Kind::kPromptDelete:
        event.prompt_id = Seldom(4) ? "default" : "p" + std::to_string(Pick(2));
        break;
      case Kind::kRollback:
        if (Often(3)) {
          event.version = static_cast<uint32_t>(
              Seldom(8) ? Pick(40) : Pick(tenant.versions / world_.publish_every + 1));
        }
        break;
      case Kind::kImport:
        BringIn(event);
        ++tenant.versions;
        break;
      case Kind::kForgetUser: {
        // Somebody else's command: whose words go is named in the data.
        event.document_id = "";
        while (event.document_id.empty()) event.document_id = User();
        event.user.clear();
        event.documents = abilities_.forgets_documents && Seldom(3);
        ++tenant.times_forgotten[event.document_id];
        ++tenant.versions;
        break;
      }
      case Kind::kForgetEvent: {
        // Which question an answer from the cache was given to first cannot be told from a log.
        const bool question = world_.cache == 0 && !tenant.queries.empty() && Seldom(3);
        const std::vector<std::string>& ids = question ? tenant.queries : tenant.lessons;
        event.user.clear();
        event.query_id = ids.empty() || Seldom(15)
                             ? "e" + std::to_string(200 + Pick(50))
                             : ids[ids.size() - 1 - Pick(std::min<size_t>(ids.size(), 8))];
        ++tenant.versions;
        break;
      }
      case Kind::kForgetConversation:
        // As of a question: what the cache gave cannot be told from a log.
        event.user.clear();
        event.conversation = world_.cache == 0 && Often(8) ? Conversation() : "absent";
        ++tenant.versions;
        break;
      default:
        break;
    }
  }

  std::string Conversation() { return "c" + std::to_string(Pick(3)); }

  void Ask(LogEvent& event, Tenant& tenant) {
    if (!tenant.questions.empty() && Seldom(5)) {  // the same once more: perhaps from the cache
      const auto& [user, text] =
          tenant.questions[tenant.questions.size() - 1 -
                           Pick(std::min<size_t>(tenant.questions.size(), 3))];
      if (text.find(Mark(tenant, user)) == 0) {
        event.user = user;
        event.text = text;
      }
    }
    if (event.text.empty()) {
      event.text = Mark(tenant, event.user);
      if (!tenant.gone.empty() && Seldom(4)) {
        event.text += LookUpWord(tenant.gone);
      } else if (!tenant.word_of.empty() && Seldom(3)) {
        auto word = tenant.word_of.begin();
        std::advance(word, Pick(tenant.word_of.size()));
        event.text += LookUpWord(word->second);
      } else {
        event.text += "how long is the " + Vocabulary(1 + Pick(2));
      }
      tenant.questions.emplace_back(event.user, event.text);
    }
    if (Seldom(6)) event.prompt_id = Seldom(4) ? "default" : "p" + std::to_string(Pick(2));
    event.too_long = Seldom(40);
    if (Seldom(4)) event.turn = Mark(tenant, event.user) + "of the " + Vocabulary(1);
    if (Often(3)) event.conversation = Conversation();
    tenant.queries.push_back(event.id);
  }

  void Judge(LogEvent& event, Tenant& tenant) {
    const bool again = !tenant.said.empty() && Seldom(3);
    if (again) {  // another word of the same user on the same answer
      const LogEvent& before =
          tenant.said[tenant.said.size() - 1 - Pick(std::min<size_t>(tenant.said.size(), 5))];
      event.kind = before.kind;
      event.user = before.user;
      event.query_id = before.query_id;
      event.text = before.text;
      event.answer = before.answer;
    } else if (event.kind == Kind::kFeedback) {
      event.query_id = Seldom(15) || tenant.queries.empty()
                           ? "e" + std::to_string(Pick(200))
                           : tenant.queries[tenant.queries.size() - 1 -
                                            Pick(std::min<size_t>(tenant.queries.size(), 6))];
    } else {
      event.text = Mark(tenant, event.user) + "what is a " + Vocabulary(1);
      // What is said again holds no word of one event alone.
      event.answer =
          Mark(tenant, event.user) + (Seldom(2) ? "" : EventWord(event.id) + " ") + Vocabulary(2);
    }
    const bool repeatable = event.answer.find("ze") == std::string::npos;
    if (!again && repeatable && !event.user.empty()) tenant.said.push_back(event);
    if (Seldom(again ? 4 : 20)) {
      event.rating = "null";
      ++tenant.versions;
      return;
    }
    static const std::vector<std::string> kRatings = {"\"up\"", "\"down\"", "0.5", "-0.5", "0"};
    if (Often(3)) event.rating = OneOf(kRatings);
    if (Seldom(2)) {
      event.correction =
          Mark(tenant, event.user) + "in short " + EventWord(event.id) + " " + Vocabulary(2);
    }
    if (Seldom(3)) event.comment = Mark(tenant, event.user) + EventWord(event.id);
    tenant.lessons.push_back(event.id);
    event.clicked = Seldom(6);
    if (event.rating.empty() && event.correction.empty() && !event.clicked) {
      event.rating = "\"up\"";
    }
    ++tenant.versions;
  }

  void BringIn(LogEvent& event) {
    event.uri = "absent.bin";
    event.sha256 = Sha256Hex("absent");
    if (files_.empty() || Seldom(4)) return;
    const ImportFile& file = OneOf(files_);
    event.uri = file.uri;
    event.sha256 = abilities_.imports && Often(4) ? file.sha256 : Sha256Hex("another");
  }

  const uint64_t seed_;
  const Abilities abilities_;
  const std::vector<ImportFile> files_;
  uint64_t counter_ = 0;
  uint64_t documents_ = 0;
  World world_;
  std::vector<Tenant> tenants_;
};

}  // namespace nudge::model
