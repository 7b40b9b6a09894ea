#include "connectors/http/keys.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>

#include "connectors/json_reader.h"
#include "connectors/json_writer.h"
#include "connectors/keys_file.h"
#include "connectors/rights_reader.h"
#include "stages/files.h"

namespace nudge {
namespace {

constexpr std::string_view kPrefix = "nudge-";
constexpr size_t kIdDigits = 16;
constexpr size_t kSecretBytes = 32;
constexpr size_t kSaltBytes = 16;
constexpr size_t kHashBytes = 32;
constexpr size_t kDepth = 8;

// scrypt's cost; memory is 128 * n * r bytes.
struct Cost {
  uint64_t n = 1 << 10;
  uint64_t r = 8;
  uint64_t p = 1;
};
constexpr Cost kCostMax{1 << 17, 16, 4};
constexpr uint64_t kMemoryBytesMax = 320ull << 20;

std::string HexOf(const unsigned char* bytes, size_t size) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < size; ++i) {
    hex += kDigits[bytes[i] >> 4];
    hex += kDigits[bytes[i] & 15];
  }
  return hex;
}

// Empty: scrypt refuses.
std::string Scrypt(std::string_view secret, std::string_view salt, const Cost& cost) {
  std::array<unsigned char, kHashBytes> hash{};
  if (EVP_PBE_scrypt(secret.data(), secret.size(),
                     reinterpret_cast<const unsigned char*>(salt.data()), salt.size(), cost.n,
                     cost.r, cost.p, kMemoryBytesMax, hash.data(), hash.size()) != 1) {
    return "";
  }
  return HexOf(hash.data(), hash.size());
}

std::string HashLine(std::string_view secret, std::string_view salt, const Cost& cost) {
  return "scrypt$" + std::to_string(cost.n) + "$" + std::to_string(cost.r) + "$" +
         std::to_string(cost.p) + "$" + std::string(salt) + "$" + Scrypt(secret, salt, cost);
}

struct ParsedHash {
  Cost cost;
  std::string salt;
  std::string hash;
};

// "scrypt$N$r$p$salt$hash"
std::optional<ParsedHash> ParseHash(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find('$', begin);
    parts.push_back(text.substr(begin, end == text.npos ? end : end - begin));
    if (end == text.npos) break;
    begin = end + 1;
  }
  if (parts.size() != 6 || parts[0] != "scrypt") return std::nullopt;
  ParsedHash parsed;
  const auto number = [](std::string_view digits, uint64_t most, uint64_t& out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return error == std::errc() && end == digits.data() + digits.size() && out >= 1 && out <= most;
  };
  Cost& cost = parsed.cost;
  if (!number(parts[1], kCostMax.n, cost.n) || !number(parts[2], kCostMax.r, cost.r) ||
      !number(parts[3], kCostMax.p, cost.p) || cost.n < 2 || (cost.n & (cost.n - 1)) != 0) {
    return std::nullopt;
  }
  parsed.salt = parts[4];
  parsed.hash = parts[5];
  if (parsed.salt.empty() || parsed.hash.size() != 2 * kHashBytes) return std::nullopt;
  return parsed;
}

std::optional<Role> RoleOf(std::string_view name) {
  for (const Role role : kRoles) {
    if (Name(role) == name) return role;
  }
  return std::nullopt;
}

std::string RoleNames() {
  std::string names;
  for (const Role role : kRoles) names += (names.empty() ? "" : ", ") + std::string(Name(role));
  return names;
}

struct KeyLine {
  Caller caller;
  std::string hash;
};

Result<KeyLine> ReadKey(std::string_view line) {
  const Result<JsonValue> root = ParseJson(line, kDepth);
  if (!root.ok()) return root.error();
  KeyLine key;
  JsonReader json;
  const auto name = [&](std::string& out) {
    return [&json, &out](const Place& at) { json.Id(at, {"256", 256}, out); };
  };
  const auto role = [&](const Place& at) {
    const std::string_view word = json.View(at, kNoLimit);
    const std::optional<Role> found = RoleOf(word);
    if (found) return key.caller.Give(*found);
    if (json.ok()) json.FailAt(at, Quoted(word) + " is no role", "roles are " + RoleNames());
  };
  json.Object({nullptr, "", *root},
              {{"id", Need::kRequired, name(key.caller.key_id)},
               {"hash", Need::kRequired, name(key.hash)},
               {"tenant", Need::kRequired, name(key.caller.tenant)},
               {"user", Need::kNullable, name(key.caller.user)},
               {"names_users", Need::kNullable,
                [&](const Place& at) { json.Bool(at, key.caller.names_users); }},
               {"groups", Need::kNullable,
                [&](const Place& at) { ReadGroups(json, at, {}, key.caller.groups); }},
               {"roles", Need::kRequired, [&](const Place& at) { json.Items(at, role); }},
               {"requests_per_minute", Need::kNullable, [&](const Place& at) {
                  json.Integer<uint32_t>(at, 1, 1'000'000, key.caller.requests_per_minute);
                }}});
  if (!json.ok()) return json.TakeError();
  if (!ParseHash(key.hash)) {
    return Error{Code::kInvalidEvent, "hash: is not as nudge key add writes it", ""};
  }
  if (key.caller.user.empty()) key.caller.user = "key-" + key.caller.key_id;
  return key;
}

// "nudge-<id>-<secret>" in two.
std::optional<std::pair<std::string_view, std::string_view>> Split(std::string_view key) {
  if (!key.starts_with(kPrefix)) return std::nullopt;
  key.remove_prefix(kPrefix.size());
  const size_t dash = key.find('-');
  if (dash == key.npos || dash != kIdDigits) return std::nullopt;
  if (key.size() - dash - 1 != 2 * kSecretBytes) return std::nullopt;
  return std::pair{key.substr(0, dash), key.substr(dash + 1)};
}

}  // namespace

std::string_view Name(Role role) {
  constexpr std::string_view kNames[] = {"ask", "feedback", "ingest", "read", "admin"};
  return kNames[static_cast<size_t>(role)];
}

std::string RandomHex(size_t bytes) {
  std::vector<unsigned char> random(bytes);
  if (RAND_bytes(random.data(), static_cast<int>(bytes)) != 1) {
    throw std::runtime_error("the system gives no random numbers");
  }
  return HexOf(random.data(), random.size());
}

KeyRing::KeyRing(const std::string& path) {
  const auto take = [this](std::string_view line) -> Result<std::string> {
    Result<KeyLine> key = ReadKey(line);
    if (!key.ok()) return key.error();
    std::string id = key->caller.key_id;
    keys_.emplace(id, Key{std::move(key->caller), std::move(key->hash)});
    return id;
  };
  ReadKeysFile("http.keys_file", path, "make one by nudge key add", take);
}

std::optional<Caller> KeyRing::Find(std::string_view key) const {
  const auto parts = Split(key);
  if (!parts) return std::nullopt;
  const auto found = keys_.find(parts->first);
  if (found == keys_.end()) return std::nullopt;
  const Sha256Digest digest = Sha256(key);
  {
    const MutexLock lock(mutex_);
    if (known_.contains(digest)) return found->second.caller;
  }
  const std::optional<ParsedHash> parsed = ParseHash(found->second.hash);
  ENSURE(parsed.has_value());  // it was read
  const std::string hash = Scrypt(parts->second, parsed->salt, parsed->cost);
  if (hash.size() != parsed->hash.size() ||
      CRYPTO_memcmp(hash.data(), parsed->hash.data(), hash.size()) != 0) {
    return std::nullopt;
  }
  const MutexLock lock(mutex_);
  known_.emplace(digest, found->first);
  return found->second.caller;
}

Result<std::string> AddKey(const KeyRequest& request) {
  const std::string id = RandomHex(kIdDigits / 2);
  const std::string secret = RandomHex(kSecretBytes);
  std::string line;
  JsonWriter json(line);
  json.Raw(R"({"id":)").Text(id);
  json.Raw(R"(,"hash":)").Text(HashLine(secret, RandomHex(kSaltBytes), {}));
  json.Raw(R"(,"tenant":)").Text(request.tenant);
  if (!request.user.empty()) json.Raw(R"(,"user":)").Text(request.user);
  json.Raw(R"(,"names_users":)").Bool(request.names_users).Raw(R"(,"roles":[)");
  for (size_t i = 0; i < request.roles.size(); ++i) {
    json.Raw(i == 0 ? "" : ",").Text(Name(request.roles[i]));
  }
  json.Raw("]");
  if (!request.groups.empty()) {
    json.Raw(R"(,"groups":)");
    WriteGroups(request.groups, json);
  }
  if (request.requests_per_minute > 0) {
    json.Raw(R"(,"requests_per_minute":)").Integer(request.requests_per_minute);
  }
  json.Raw("}\n");
  if (const Result<KeyLine> key = ReadKey(line); !key.ok()) return key.error();
  const auto failed = [&](const Error& error) {
    return Error{Code::kUnreadableFile, request.file + ": " + error.message, error.remedy};
  };
  // A line goes in by one write at the end, so that two commands at once mix nothing.
  const auto file = OpenFile(request.file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC);
  if (!file.ok()) return failed(file.error());
  if (const auto written = WriteAll(*file, line); !written.ok()) return failed(written.error());
  return std::string(kPrefix) + id + "-" + secret;
}

}  // namespace nudge
