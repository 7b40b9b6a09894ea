// API keys: who calls, and what they may do.
//
//   file of keys -> [KeyRing]; a key -> [KeyRing::Find] -> Caller
//
// A key is "nudge-<id>-<secret>". The file has one JSON object a line, with the id and a hash of
// the secret (scrypt with a salt), never the secret. The secret has 256 random bits, which nobody
// guesses, so the hash need not be slow: it is made with 1 MiB and some milliseconds.
//
// Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "stages/access.h"
#include "stages/guarded.h"
#include "stages/hash.h"
#include "stages/result.h"

namespace nudge {

enum class Role : uint8_t { kAsk, kFeedback, kIngest, kRead, kAdmin };
inline constexpr Role kRoles[] = {Role::kAsk, Role::kFeedback, Role::kIngest, Role::kRead,
                                  Role::kAdmin};
std::string_view Name(Role role);

// Who sends a request. Without keys it is everybody, for any tenant.
struct Caller {
  bool open = false;  // there are no keys: tenant and user are what the request says
  std::string key_id;
  std::string tenant;
  std::string user;          // the key's own; without one "key-<id>"
  bool names_users = false;  // a back end: it may name whom it speaks for, and their groups
  Groups groups;             // of the key's own user
  uint32_t role_bits = 0;
  uint32_t requests_per_minute = 0;  // 0: no limit

  void Give(Role role) { role_bits |= 1u << static_cast<unsigned>(role); }
  // An admin may do all.
  bool May(Role role) const { return open || Has(role) || Has(Role::kAdmin); }

 private:
  bool Has(Role role) const { return (role_bits >> static_cast<unsigned>(role) & 1) != 0; }
};

class KeyRing {
 public:
  // Reads the file. Throws StartError, which names the line.
  explicit KeyRing(const std::string& path);

  size_t size() const { return keys_.size(); }

  // Whose key it is; nothing for one that is not in the file. A key that was found once is known by
  // its SHA-256 from then on.
  std::optional<Caller> Find(std::string_view key) const;

 private:
  struct Key {
    Caller caller;
    std::string hash;
  };
  std::map<std::string, Key, std::less<>> keys_;  // by id
  mutable Mutex mutex_;
  mutable std::map<Sha256Digest, std::string> known_ GUARDED_BY(mutex_);  // -> id; real keys alone
};

// Makes a key from the system's random numbers and appends it to the file, which is made 0600 where
// it is missing. The key itself, which is nowhere else.
struct KeyRequest {
  std::string file;
  std::string tenant;
  std::string user;  // may be empty
  bool names_users = false;
  std::vector<Role> roles;
  uint32_t requests_per_minute = 0;
  Groups groups = {};  // of its user
};
Result<std::string> AddKey(const KeyRequest& request);

// `bytes` random bytes of the system as lower-case hex. Throws std::runtime_error if it has none.
std::string RandomHex(size_t bytes);

}  // namespace nudge
