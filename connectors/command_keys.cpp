#include "connectors/command_keys.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "connectors/codec.h"
#include "connectors/json_faults.h"
#include "connectors/json_reader.h"
#include "connectors/json_writer.h"
#include "connectors/keys_file.h"
#include "stages/files.h"
#include "stages/hash.h"

namespace nudge {
namespace {

constexpr size_t kIdDigits = 16;
constexpr size_t kSignatureBytes = 64;
constexpr uint64_t kPrivateFileBytesMax = 64 << 10;
constexpr size_t kDepth = 8;

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

using Signature = std::array<uint8_t, kSignatureBytes>;

std::string HexOf(const Signature& signature) {
  std::string hex;
  for (size_t begin = 0; begin < signature.size(); begin += sizeof(Sha256Digest)) {
    Sha256Digest half{};
    std::copy_n(signature.begin() + static_cast<ptrdiff_t>(begin), half.size(), half.begin());
    hex += Hex(half);
  }
  return hex;
}

std::optional<Signature> SignatureOf(std::string_view hex) {
  constexpr size_t kHalf = kSignatureBytes;  // digits of half of the bytes
  if (hex.size() != 2 * kHalf) return std::nullopt;
  Signature signature{};
  auto out = signature.begin();
  for (const std::string_view half : {hex.substr(0, kHalf), hex.substr(kHalf)}) {
    if (!IsSha256Hex(half)) return std::nullopt;
    const Sha256Digest bytes = FromHex(half);
    out = std::copy(bytes.begin(), bytes.end(), out);
  }
  return signature;
}

std::string SignedBytes(std::string_view encoded) {
  return std::string(kSignedPrefix) + std::string(encoded);
}

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

bool Verifies(EVP_PKEY* key, const Signature& signature, std::string_view bytes) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  ENSURE(context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key) == 1);
  return EVP_DigestVerify(context.get(), signature.data(), signature.size(), Bytes(bytes),
                          bytes.size()) == 1;
}

PublicKey PublicOf(const EVP_PKEY* key) {
  PublicKey bytes{};
  size_t size = bytes.size();
  ENSURE(EVP_PKEY_get_raw_public_key(key, bytes.data(), &size) == 1 && size == bytes.size());
  return bytes;
}

// ---- The file of keys ---------------------------------------------------------------------------

struct KeyLine {
  std::string id;
  std::string public_key;  // hex
  std::string tenant;      // empty: all
};

Result<KeyLine> ReadKey(std::string_view line) {
  const Result<JsonValue> root = ParseJson(line, kDepth);
  if (!root.ok()) return root.error();
  KeyLine key;
  bool all_tenants = false;
  JsonReader json;
  const auto name = [&](std::string& out) {
    return [&json, &out](const Place& at) { json.Id(at, kNoLimit, out); };
  };
  json.Object({nullptr, "", *root}, {{"id", Need::kRequired, name(key.id)},
                                     {"public_key", Need::kRequired, name(key.public_key)},
                                     {"tenant", Need::kNullable, name(key.tenant)},
                                     {"all_tenants", Need::kNullable,
                                      [&](const Place& at) { json.Bool(at, all_tenants); }}});
  if (!json.ok()) return json.TakeError();
  const auto wrong = [](std::string message) {
    return Error{Code::kInvalidEvent, std::move(message), "write the line by nudge key pair"};
  };
  if (!IsSha256Hex(key.public_key)) return wrong("public_key: expected 64 lower-case hex digits");
  if (key.id != KeyIdOf(FromHex(key.public_key))) return wrong("id: it is not that of public_key");
  if (key.tenant.empty() != all_tenants) {
    return wrong("exactly one of tenant and all_tenants is needed");
  }
  return key;
}

std::string WriteKey(const KeyLine& key) {
  std::string line;
  JsonWriter json(line);
  json.Raw(R"({"id":)").Text(key.id).Raw(R"(,"public_key":)").Text(key.public_key);
  if (key.tenant.empty()) {
    json.Raw(R"(,"all_tenants":true)");
  } else {
    json.Raw(R"(,"tenant":)").Text(key.tenant);
  }
  json.Raw("}\n");
  return line;
}

// ---- What an event carries ----------------------------------------------------------------------

struct Carried {
  std::string signature;
  std::string key_id;
};

Result<Carried> ReadCarried(std::string_view bytes, size_t json_depth) {
  const Result<JsonValue> root = ParseJson(WithoutMarks(bytes), json_depth);
  if (!root.ok()) return root.error();
  Carried carried;
  JsonReader json;
  const auto text = [&](std::string& out) {
    return [&json, &out](const Place& at) { json.Text(at, kNoLimit, out); };
  };
  json.Object({nullptr, "", *root},
              {{"signature", Need::kNullable, text(carried.signature)},
               {"signaturekey", Need::kNullable, text(carried.key_id)}},
              Unknown::kIgnored);
  if (!json.ok()) return json.TakeError();
  return carried;
}

}  // namespace

std::string KeyIdOf(const PublicKey& key) {
  return Sha256Hex({reinterpret_cast<const char*>(key.data()), key.size()}).substr(0, kIdDigits);
}

// ---- Signing ------------------------------------------------------------------------------------

struct SigningKey::Pair {
  Owned<EVP_PKEY> key;
  std::string id;
};

Result<SigningKey> SigningKey::Read(const std::string& path) {
  Result<std::string> pem = ReadFile(path, kPrivateFileBytesMax);
  if (!pem.ok()) return Error{pem.error().code, path + ": " + pem.error().message, ""};
  const Owned<BIO> bio(BIO_new_mem_buf(pem->data(), static_cast<int>(pem->size())));
  ENSURE(bio);
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };
  Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  OPENSSL_cleanse(pem->data(), pem->size());
  if (!key || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) {
    return Error{Code::kUnreadableFile,
                 path + ": no private key of Ed25519 in PEM, without a passphrase",
                 "make one by nudge key pair"};
  }
  std::string id = KeyIdOf(PublicOf(key.get()));
  return SigningKey(std::make_shared<const Pair>(Pair{std::move(key), std::move(id)}));
}

PublicKey SigningKey::public_key() const {
  return PublicOf(pair_->key.get());
}

std::string SigningKey::Sign(const Event& event) const {
  std::string line = EncodeEvent(event);
  const std::string bytes = SignedBytes(line);
  Signature signature{};
  size_t size = signature.size();
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  ENSURE(context &&
         EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, pair_->key.get()) == 1 &&
         EVP_DigestSign(context.get(), signature.data(), &size, Bytes(bytes), bytes.size()) == 1);
  line.pop_back();  // the brace
  JsonWriter json(line);
  json.Raw(R"(,"signature":)").Text(HexOf(signature));
  json.Raw(R"(,"signaturekey":)").Text(pair_->id).Raw("}");
  return line;
}

// ---- Checking -----------------------------------------------------------------------------------

struct CommandKeys::Key {
  std::string tenant;  // empty: all
  Owned<EVP_PKEY> key;
};

CommandKeys::CommandKeys(const std::string& path) {
  const auto take = [this](std::string_view line) -> Result<std::string> {
    const Result<KeyLine> read = ReadKey(line);
    if (!read.ok()) return read.error();
    const PublicKey raw = FromHex(read->public_key);
    Owned<EVP_PKEY> key(
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw.data(), raw.size()));
    ENSURE(key);
    keys_.emplace(read->id, std::make_shared<const Key>(Key{read->tenant, std::move(key)}));
    return read->id;
  };
  ReadKeysFile("commands.keys_file", path, "make one by nudge key pair", take);
}

std::optional<Error> CommandKeys::Check(std::string_view bytes, const Event& event,
                                        size_t json_depth) const {
  const auto refuse = [](std::string message, std::string remedy) {
    return Error{Code::kForbidden, std::move(message), std::move(remedy)};
  };
  const Result<Carried> carried = ReadCarried(bytes, json_depth);
  if (!carried.ok()) return carried.error();
  if (carried->signature.empty()) {
    return refuse("signature: missing: " + std::string(TypeName(event)) + " is a command",
                  "sign it by nudge sign, or send it to a gateway with gateway.signing_key_file");
  }
  const auto found = keys_.find(carried->key_id);
  if (found == keys_.end()) {
    return refuse("signaturekey: " + Quoted(carried->key_id) + " is not in commands.keys_file",
                  "name the key that signed: its id stands there beside its public key");
  }
  const Key& key = *found->second;
  if (!key.tenant.empty() && key.tenant != event.tenant) {
    return refuse("signaturekey: " + found->first + " is of another tenant",
                  "sign with a key of the tenant " + Quoted(event.tenant));
  }
  const std::optional<Signature> signature = SignatureOf(carried->signature);
  if (!signature || !Verifies(key.key.get(), *signature, SignedBytes(EncodeEvent(event)))) {
    return refuse("signature: it is not one of this event by the key " + found->first,
                  "sign the event as it is sent: tenant, source, id, type, time, user and data");
  }
  return std::nullopt;
}

// ---- Making -------------------------------------------------------------------------------------

Result<std::string> MakeKeyPair(const KeyPairRequest& request) {
  const Owned<EVP_PKEY> key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  const Owned<BIO> bio(BIO_new(BIO_s_secmem()));
  if (!key || !bio ||
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
          1) {
    return Error{Code::kInternal, "OpenSSL makes no key", ""};
  }
  char* pem = nullptr;
  const long pem_bytes = BIO_get_mem_data(bio.get(), &pem);
  const PublicKey public_key = PublicOf(key.get());
  const std::string line = WriteKey({KeyIdOf(public_key), Hex(public_key), request.tenant});
  if (const Result<KeyLine> read = ReadKey(line); !read.ok()) return read.error();
  const auto failed = [](const std::string& path, const Error& error) {
    return Error{Code::kUnreadableFile, path + ": " + error.message, error.remedy};
  };
  const auto made = OpenFile(request.private_file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
  if (!made.ok()) return failed(request.private_file, made.error());
  const auto written = WriteAll(*made, {pem, static_cast<size_t>(pem_bytes)});
  if (!written.ok()) {
    unlink(request.private_file.c_str());
    return failed(request.private_file, written.error());
  }
  // A line goes in by one write at the end, so that two commands at once mix nothing.
  const auto keys = OpenFile(request.keys_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC);
  const auto added = keys.ok() ? WriteAll(*keys, line) : Result<Nothing>(keys.error());
  if (!added.ok()) {
    unlink(request.private_file.c_str());
    return failed(request.keys_file, added.error());
  }
  return KeyIdOf(public_key);
}

}  // namespace nudge
