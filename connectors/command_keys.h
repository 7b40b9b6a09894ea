// Signatures of commands: who may tell a tenant's model what it becomes, where others may write to
// the input too.
//
//   Event -> [SigningKey::Sign] -> line;   line, Event -> [CommandKeys::Check] -> nothing | Error
//
// A signature is Ed25519's over kSignedPrefix and what EncodeEvent makes of the event: all that
// nudge reads of it, tenant, source, id, type, time, user and data, in one form, so that neither
// white space nor unknown attributes count, and nothing that counts can differ. It stands in the
// event as the attributes `signature` (128 lower-case hex digits) and `signaturekey`.
//
// The file of keys has one JSON object a line: an id, the public key, and the tenant that it may
// command, or that it may command all. Who signs has the private key, in PEM.
//
// Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "stages/events.h"
#include "stages/result.h"

namespace nudge {

// In front of what is signed, so that a key's signature of anything else is none of a command. It
// changes where the form of EncodeEvent does.
inline constexpr std::string_view kSignedPrefix = "nudge-command-1\n";

using PublicKey = std::array<uint8_t, 32>;

// The first 16 hex digits of its SHA-256.
std::string KeyIdOf(const PublicKey& key);

// Whoever may sign.
class SigningKey {
 public:
  // Reads the PEM of an Ed25519 key. kUnreadableFile: it is none, or has a passphrase.
  static Result<SigningKey> Read(const std::string& path);

  PublicKey public_key() const;
  // The event as a line that carries the signature: the same event gives the same bytes.
  std::string Sign(const Event& event) const;

 private:
  struct Pair;
  explicit SigningKey(std::shared_ptr<const Pair> pair) : pair_(std::move(pair)) {}

  std::shared_ptr<const Pair> pair_;
};

class CommandKeys {
 public:
  // Reads the file. Throws StartError, which names the line.
  explicit CommandKeys(const std::string& path);

  size_t size() const { return keys_.size(); }

  // Why the command is refused; nothing: it is signed by a key that may command its tenant.
  // `bytes` are those that `event` was read from, of at most `json_depth`.
  //   kForbidden     there is no signature, or not one of the event by such a key
  //   kInvalidEvent  an attribute that is no text, or given twice
  std::optional<Error> Check(std::string_view bytes, const Event& event, size_t json_depth) const;

 private:
  struct Key;
  std::map<std::string, std::shared_ptr<const Key>, std::less<>> keys_;  // by id
};

// Makes a key pair from the system's random numbers: the private key in a new file, 0600, the
// public one behind the others in the file of keys, which is made where it is missing. The id.
// kUnreadableFile: the new file is there already, or one cannot be written; then nothing is left
// of the private key.
struct KeyPairRequest {
  std::string private_file;
  std::string keys_file;
  std::string tenant;  // empty: all
};
Result<std::string> MakeKeyPair(const KeyPairRequest& request);

}  // namespace nudge
