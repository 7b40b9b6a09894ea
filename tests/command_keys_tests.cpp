// labels: unit
#include "connectors/command_keys.h"

#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "connectors/codec.h"
#include "connectors/http/event_draft.h"
#include "tests/temp_folder.h"

using namespace nudge;
using nudge::testing::FileBytes;
using nudge::testing::TempFolder;

namespace {

// Of RFC 8032, section 7.1, test 1.
constexpr char kPrivatePem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";
constexpr char kPublicHex[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
constexpr char kId[] = "21fe31dfa154a261";

class Keys {
 public:
  // Empty tenant: all.
  SigningKey Make(const std::string& name, const std::string& tenant) {
    const auto id = MakeKeyPair({private_file(name), file(), tenant});
    BOOST_REQUIRE_MESSAGE(id.ok(), (id.ok() ? "" : id.error().message));
    return Read(private_file(name));
  }
  static SigningKey Read(const std::string& path) {
    auto key = SigningKey::Read(path);
    BOOST_REQUIRE_MESSAGE(key.ok(), (key.ok() ? "" : key.error().message));
    return *std::move(key);
  }
  std::string private_file(const std::string& name) const {
    return folder.path() + "/" + name + ".pem";
  }
  std::string file() const { return folder.path() + "/keys.jsonl"; }

  const TempFolder folder;
};

Event Command(decltype(Event::data) data = AdapterCommand{AdapterCommand::Action::kReset}) {
  return {"c-1", "/ops", "2026-11-30", "acme", "ann", std::move(data)};
}

std::optional<Error> Check(const CommandKeys& keys, const std::string& line) {
  const Result<Event> event = DecodeEvent(line);
  BOOST_REQUIRE_MESSAGE(event.ok(), (event.ok() ? "" : event.error().message));
  return keys.Check(line, *event, EventLimits{}.json_depth);
}

void IsTaken(const CommandKeys& keys, const std::string& line) {
  const auto refusal = Check(keys, line);
  BOOST_TEST(!refusal.has_value(), line << ": " << (refusal ? refusal->message : ""));
}

std::string IsRefused(const CommandKeys& keys, const std::string& line,
                      Code code = Code::kForbidden) {
  const auto refusal = Check(keys, line);
  BOOST_REQUIRE_MESSAGE(refusal.has_value(), line);
  BOOST_TEST(Name(refusal->code) == Name(code));
  BOOST_TEST((code != Code::kForbidden || !refusal->remedy.empty()));
  return refusal->message;
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  BOOST_REQUIRE_MESSAGE(at != text.npos, from << " in " << text);
  return text.replace(at, from.size(), to);
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_command_is_taken_by_the_key_that_signed_it) {
  Keys made;
  const SigningKey ann = made.Make("ann", "acme");
  const SigningKey gateway = made.Make("gateway", "");
  const CommandKeys keys(made.file());
  BOOST_TEST(keys.size() == 2U);
  PromptUpsert prompt{"short", "Be \"brief\".\n\u2028", Decoding{.7, .9, 40, 64}};
  Forget forget;
  forget.conversation_id = "böb";
  AdapterCommand import{AdapterCommand::Action::kImport};
  import.uri = "a/adapter.gguf";
  import.sha256 = std::string(64, 'a');
  for (const auto& data : std::initializer_list<decltype(Event::data)>{
           AdapterCommand{AdapterCommand::Action::kFreeze},
           AdapterCommand{AdapterCommand::Action::kRollback, 3}, import, prompt,
           PromptDelete{"short"}, forget}) {
    for (const SigningKey* key : {&ann, &gateway}) {
      const std::string line = key->Sign(Command(data));
      IsTaken(keys, line);
      BOOST_TEST(key->Sign(Command(data)) == line);
      const Result<Event> event = DecodeEvent(line);
      BOOST_REQUIRE(event.ok());
      BOOST_TEST(EncodeEvent(*event) == EncodeEvent(Command(data)));
    }
  }
}

BOOST_AUTO_TEST_CASE(what_nudge_reads_of_an_event_cannot_be_changed_behind_its_signature) {
  Keys made;
  const SigningKey key = made.Make("ann", "");
  const CommandKeys keys(made.file());
  const std::string line = key.Sign(Command());
  const std::string why =
      "signature: it is not one of this event by the key " + KeyIdOf(key.public_key());
  for (const auto& [from, to] : std::initializer_list<std::pair<std::string, std::string>>{
           {R"("id":"c-1")", R"("id":"c-2")"},
           {R"("source":"/ops")", R"("source":"/web")"},
           {R"("time":"2026-11-30")", R"("time":"2026-12-01")"},
           {R"("tenant":"acme")", R"("tenant":"globex")"},
           {R"("user":"ann")", R"("user":"bob")"},
           {R"(,"user":"ann")", ""},
           {R"("action":"reset")", R"("action":"freeze")"},
           {R"("action":"reset")", R"("action":"reset","user":"bob")"},
           {"nudge.adapter", "nudge.forget"}}) {
    std::string changed = Replaced(line, from, to);
    if (to == "nudge.forget") changed = Replaced(changed, R"("action":"reset")", R"("user":"bob")");
    BOOST_TEST(IsRefused(keys, changed) == why);
  }
  // Of another command by the same key, and each digit of its own.
  const std::string other = key.Sign(Command(PromptDelete{"short"}));
  const std::string_view member = R"("signature":")";
  const auto signature = [&](const std::string& of) {
    return of.substr(of.find(member) + member.size(), 128);
  };
  BOOST_TEST(IsRefused(keys, Replaced(line, signature(line), signature(other))) == why);
  for (size_t digit = 0; digit < 128; ++digit) {
    std::string spoilt = signature(line);
    spoilt[digit] = spoilt[digit] == '0' ? '1' : '0';
    BOOST_TEST(IsRefused(keys, Replaced(line, signature(line), spoilt)) == why);
  }
  for (const char* odd : {"x", "00", "ABCDEF"}) {
    BOOST_TEST(IsRefused(keys, Replaced(line, signature(line), odd)) == why);
  }
}

BOOST_AUTO_TEST_CASE(how_a_signed_event_is_written_does_not_count) {
  Keys made;
  const SigningKey key = made.Make("ann", "acme");
  const CommandKeys keys(made.file());
  Event event = Command();
  event.id = "7";
  const std::string line = key.Sign(event);
  IsTaken(keys, "\xEF\xBB\xBF \t" + line + " ");
  IsTaken(keys, Replaced(line, R"("source":"/ops",)", "\n \"source\" : \"\\u002fops\" ,"));
  IsTaken(keys, Replaced(line, R"("id":"7")", R"("id":7,"subject":"a","level":[1,{}])"));
  IsTaken(keys, Replaced(line, R"({"action":"reset"})", R"({"user":null,"action":"reset"})"));
}

BOOST_AUTO_TEST_CASE(who_may_not_command_is_refused_by_name) {
  Keys made;
  const SigningKey ann = made.Make("ann", "acme");
  const SigningKey carl = made.Make("carl", "globex");
  const CommandKeys keys(made.file());
  const SigningKey stranger = Keys().Make("stranger", "acme");
  BOOST_TEST(IsRefused(keys, EncodeEvent(Command())) ==
             "signature: missing: nudge.adapter is a command");
  const std::string id = KeyIdOf(stranger.public_key());
  BOOST_TEST(IsRefused(keys, stranger.Sign(Command())) ==
             "signaturekey: " + id + " is not in commands.keys_file");
  BOOST_TEST(IsRefused(keys, Replaced(stranger.Sign(Command()), id, KeyIdOf(ann.public_key())))
                 .starts_with("signature: it is not one"));
  BOOST_TEST(IsRefused(keys, carl.Sign(Command())) ==
             "signaturekey: " + KeyIdOf(carl.public_key()) + " is of another tenant");
  const std::string line = ann.Sign(Command());
  BOOST_TEST(IsRefused(keys, Replaced(line, R"("signaturekey":")", R"("keyname":")")) ==
             "signaturekey:  is not in commands.keys_file");
  const auto malformed = [&](const std::string& more) {
    return IsRefused(keys, Replaced(line, R"("signature")", more + R"("signature")"),
                     Code::kInvalidEvent);
  };
  BOOST_TEST(malformed(R"("signature":"a",)") == "signature: given twice");
  BOOST_TEST(malformed(R"("signaturekey":3,)") ==
             "signaturekey: expected a string, found an integer");
}

// A change of these bytes would refuse commands that were signed before it.
BOOST_AUTO_TEST_CASE(signatures_are_those_that_openssl_makes_of_the_documented_bytes) {
  const Keys made;
  std::ofstream(made.private_file("rfc")) << kPrivatePem;
  const SigningKey key = Keys::Read(made.private_file("rfc"));
  BOOST_TEST(KeyIdOf(key.public_key()) == kId);
  const auto pinned = [&](const std::string& event, const std::string& signature) {
    const Result<Event> read = DecodeEvent(event);
    BOOST_REQUIRE(read.ok());
    BOOST_TEST(key.Sign(*read) == event.substr(0, event.size() - 1) + R"(,"signature":")" +
                                      signature + R"(","signaturekey":")" + kId + "\"}");
  };
  pinned(
      R"({"specversion":"1.0","id":"r-1","source":"/ops","type":"nudge.adapter","time":"2026-11-30","tenant":"acme","user":"ann","datacontenttype":"application/json","data":{"action":"reset"}})",
      "dec2d2003db2ee1eda86cbcf690492167b00325bc0ffb64e0f4107987165931b7912747dda225616e8885268dacf"
      "5c46837c86de3c9bb0603eed963ae7eec20d");
  pinned(
      R"({"specversion":"1.0","id":"f-1","source":"/ops","type":"nudge.forget","tenant":"acme","datacontenttype":"application/json","data":{"user":"böb","documents":true}})",
      "a835aa11ce2e30ed18d324f9565193b81fa988eed4db83cba2c92763c2b5f823207f1ac7dc053f3d5cf1d7184864"
      "dbbe4e7979193f2ef86f64f38b325b73dc02");
  pinned(
      R"({"specversion":"1.0","id":"p-1","source":"/ops","type":"nudge.prompt.upsert","tenant":"acme","datacontenttype":"application/json","data":{"prompt_id":"short","system":"Be \"brief\".\n","decoding":{"temperature":0.7,"top_p":1,"top_k":0,"max_tokens":64}}})",
      "7804f72df71237e991d23c173174dd056152559130562cf30aa09597360629eb94c186e9c3d109052d47068538bb"
      "7360d8767645c4a7f1733bdb0107344f0a0d");
}

BOOST_AUTO_TEST_CASE(a_pair_is_a_private_file_of_its_owner_and_a_line_behind_the_others) {
  Keys made;
  const SigningKey ann = made.Make("ann", "acme");
  made.Make("gateway", "");
  struct stat about {};
  BOOST_REQUIRE(stat(made.private_file("ann").c_str(), &about) == 0);
  BOOST_TEST((about.st_mode & 0777) == 0600U);
  const std::string lines = FileBytes(made.file());
  BOOST_TEST(std::count(lines.begin(), lines.end(), '\n') == 2);
  BOOST_TEST(lines.starts_with(R"({"id":")" + KeyIdOf(ann.public_key()) + R"(","public_key":")"));
  BOOST_TEST(lines.find(R"(","tenant":"acme"})") != lines.npos, lines);
  BOOST_TEST(lines.ends_with("\",\"all_tenants\":true}\n"), lines);

  // Nothing is written over, and nothing is left of a pair whose public key finds no place.
  const std::string before = FileBytes(made.private_file("ann"));
  BOOST_TEST(!MakeKeyPair({made.private_file("ann"), made.file(), "acme"}).ok());
  BOOST_TEST(FileBytes(made.private_file("ann")) == before);
  BOOST_TEST(FileBytes(made.file()) == lines);
  BOOST_TEST(
      !MakeKeyPair({made.private_file("bob"), made.folder.path() + "/no/keys", "acme"}).ok());
  BOOST_TEST(!std::filesystem::exists(made.private_file("bob")));
  BOOST_TEST(!MakeKeyPair({made.private_file("bob"), made.file(), "a\nb"}).ok());
  BOOST_TEST(!std::filesystem::exists(made.private_file("bob")));
}

BOOST_AUTO_TEST_CASE(files_that_hold_no_keys_are_refused_with_the_line) {
  const Keys made;
  const auto wrong = [&](const std::string& text) -> std::string {
    std::ofstream(made.file()) << text;
    try {
      const CommandKeys keys(made.file());
    } catch (const StartError& error) {
      return error.what();
    }
    return "";
  };
  const std::string good = std::string(R"({"id":")") + kId + R"(","public_key":")" + kPublicHex +
                           R"(","tenant":"acme"})";
  BOOST_TEST(wrong(good) == "");
  BOOST_TEST(wrong("\n" + good + "\r\n \n") == "");
  const std::string in = made.file() + ":1: ";
  BOOST_TEST(wrong(Replaced(good, kId, "21fe31dfa154a262")) ==
             in + "id: it is not that of public_key");
  BOOST_TEST(wrong(Replaced(good, "d75a", "D75A")) ==
             in + "public_key: expected 64 lower-case hex digits");
  const std::string one = in + "exactly one of tenant and all_tenants is needed";
  BOOST_TEST(wrong(Replaced(good, R"(,"tenant":"acme")", "")) == one);
  BOOST_TEST(wrong(Replaced(good, R"(,"tenant")", R"(,"all_tenants":true,"tenant")")) == one);
  BOOST_TEST(wrong(Replaced(good, "tenant", "owner")).starts_with(in + "owner: unknown field"));
  BOOST_TEST(wrong("nothing").starts_with(in + "not JSON"));
  BOOST_TEST(wrong(good + "\n" + good) == made.file() + ":2: the id " + kId + " is given twice");
  BOOST_TEST(wrong("\n").ends_with(": no key in it: make one by nudge key pair"));

  const auto unreadable = [&](const std::string& pem) {
    std::ofstream(made.private_file("k")) << pem;
    const auto key = SigningKey::Read(made.private_file("k"));
    BOOST_REQUIRE(!key.ok());
    BOOST_TEST(Name(key.error().code) == "unreadable_file");
    return key.error().message;
  };
  const std::string none =
      made.private_file("k") + ": no private key of Ed25519 in PEM, without a passphrase";
  BOOST_TEST(unreadable("") == none);
  BOOST_TEST(unreadable(Replaced(kPrivatePem, "VwBCIE", "VwBCIF")) == none);
  BOOST_TEST(unreadable(  // of X25519
                 "-----BEGIN PRIVATE KEY-----\n"
                 "MC4CAQAwBQYDK2VuBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                 "-----END PRIVATE KEY-----\n") == none);
  BOOST_TEST(!SigningKey::Read(made.folder.path() + "/nothing").ok());
}

BOOST_AUTO_TEST_CASE(what_needs_a_signature_over_topics_needs_the_role_admin_at_the_door) {
  Caller caller;
  caller.tenant = "acme";
  for (const Role role : {Role::kAsk, Role::kFeedback, Role::kIngest, Role::kRead}) {
    caller.Give(role);
  }
  int commands = 0;
  const std::pair<const char*, const char*> types[] = {
      {"nudge.document.upsert", R"({"document_id":"d","text":"a"})"},
      {"nudge.document.delete", R"({"document_id":"d"})"},
      {"nudge.query", R"({"text":"a?"})"},
      {"nudge.feedback", R"({"query_id":"q","rating":1})"},
      {"nudge.example", R"({"query":"a?","answer":"b"})"},
      {"nudge.prompt.upsert", R"({"prompt_id":"p","system":"s"})"},
      {"nudge.prompt.delete", R"({"prompt_id":"p"})"},
      {"nudge.adapter", R"({"action":"reset"})"},
      {"nudge.forget", R"({"user":"u"})"},
      {"nudge.source.sync", R"({"document_ids":[]})"}};
  static_assert(std::size(types) == std::variant_size_v<decltype(Event::data)>);
  for (const auto& [type, data] : types) {
    EventDraft draft{"i", "/s", "", "",
                     std::string(R"("specversion":"1.0","type":")") + type + R"(","data":)" + data};
    const auto item = Admit(std::move(draft), caller, HttpRequest{}, EventLimits{});
    const auto* refusal = std::get_if<HttpRefusal>(&item);
    BOOST_REQUIRE_MESSAGE((refusal == nullptr || refusal->code == "role_missing"), type);
    const auto event =
        DecodeEvent(std::string(R"({"specversion":"1.0","id":"i","source":"/s",)") +
                    R"("tenant":"acme","type":")" + type + R"(","data":)" + data + "}");
    BOOST_REQUIRE(event.ok());
    BOOST_TEST(IsCommand(*event) == (refusal != nullptr), type);
    commands += IsCommand(*event);
  }
  BOOST_TEST(commands == 4);
}
