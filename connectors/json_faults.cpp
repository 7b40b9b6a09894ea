#include "connectors/json_faults.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace nudge {
namespace {

constexpr std::string_view kStandIn = "\\u007f";  // no name holds it
constexpr std::string_view kLargest = "1.7976931348623157e308";

// A lexer that stops at nothing.
class Mender {
 public:
  explicit Mender(std::string_view bytes) : in_(bytes) { out_.bytes.reserve(in_.size() + 16); }

  MendedJson Run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '"') {
        String();
      } else if (c == '-' || (c >= '0' && c <= '9') || c == 'N' || c == 'I') {
        Number();
      } else {
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  void Copy(size_t size) {
    out_.bytes.append(in_.substr(at_, size));
    at_ += size;
  }

  void Replace(size_t size, std::string_view with) {
    out_.bytes.append(with);
    at_ += size;
  }

  void Fault(const std::string& what, std::string remedy) {
    if (out_.fault) return;
    out_.fault =
        Error{Code::kInvalidJson, what + " at byte " + std::to_string(at_), std::move(remedy)};
  }

  void String() {
    Copy(1);
    while (at_ < in_.size()) {
      const auto byte = static_cast<unsigned char>(in_[at_]);
      if (byte == '\\') {
        Escape();
      } else if (byte < 0x20) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        const std::string code = {kDigits[byte >> 4], kDigits[byte & 15]};
        Fault("not JSON: a raw control character (0x" + code + ") inside a text",
              "write it as \\u00" + code);
        Replace(1, kStandIn);
      } else {
        Copy(1);
        if (byte == '"') return;
      }
    }
  }

  // The code unit of an escape \uXXXX at `at`.
  std::optional<uint32_t> UnitAt(size_t at) const {
    if (!in_.substr(at).starts_with("\\u") || at + 6 > in_.size()) return std::nullopt;
    uint32_t unit = 0;
    const char* const end = in_.data() + at + 6;
    const auto [stop, error] = std::from_chars(in_.data() + at + 2, end, unit, 16);
    if (error != std::errc() || stop != end) return std::nullopt;
    return unit;
  }

  void Escape() {
    const char kind = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    if (kind != 'u') {
      if (std::string_view("\"\\/bfnrt").find(kind) != std::string_view::npos) return Copy(2);
      Fault("not JSON: an escape that it does not have", "write a backslash as \\\\");
      return Replace(1, kStandIn);
    }
    const std::optional<uint32_t> unit = UnitAt(at_);
    if (!unit) {
      Fault("not JSON: \\u without four hex digits", "write a backslash as \\\\");
      return Replace(2, kStandIn);
    }
    if (*unit < 0xd800 || *unit > 0xdfff) return Copy(6);
    const std::optional<uint32_t> next = UnitAt(at_ + 6);
    if (*unit < 0xdc00 && next && *next >= 0xdc00 && *next <= 0xdfff) return Copy(12);
    Fault("a lone surrogate " + std::string(in_.substr(at_, 6)) + ", half of a character,",
          "cut texts between characters (in JavaScript: text.toWellFormed(), or cut "
          "Array.from(text))");
    Replace(6, kStandIn);
  }

  void Number() {
    const size_t sign = in_[at_] == '-' ? 1 : 0;
    for (const std::string_view word : {"NaN", "Infinity"}) {
      if (!in_.substr(at_ + sign).starts_with(word)) continue;
      Fault("not JSON: " + std::string(in_.substr(at_, sign + word.size())),
            "JSON has finite numbers only: write one, or leave the field out");
      return Replace(sign + word.size(), "null");
    }
    const size_t end = in_.find_first_not_of("0123456789+-.eE", at_);
    std::string token(in_.substr(at_, end == in_.npos ? end : end - at_));
    if (token.empty()) return Copy(1);
    const bool is_integer = token.find_first_of(".eE") == token.npos;
    uint64_t magnitude = 0;
    int64_t negative = 0;
    const char* const last = token.data() + token.size();
    const std::errc error = sign == 0 ? std::from_chars(token.data(), last, magnitude).ec
                                      : std::from_chars(token.data(), last, negative).ec;
    if (is_integer && error != std::errc::result_out_of_range) return Copy(token.size());
    const double value = std::strtod(token.c_str(), nullptr);
    if (!is_integer && std::isfinite(value)) return Copy(token.size());
    out_.has_large_numbers = true;
    if (!std::isfinite(value)) {
      if (sign != 0) out_.bytes.push_back('-');
      return Replace(token.size(), kLargest);
    }
    Copy(token.size());
    out_.bytes.append("e0");
  }

  const std::string_view in_;
  size_t at_ = 0;
  MendedJson out_;
};

}  // namespace

MendedJson MendJson(std::string_view bytes) {
  return Mender(bytes).Run();
}

std::string_view WithoutMarks(std::string_view bytes) {
  while (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
  return bytes;
}

std::string_view BehindFraming(std::string_view bytes) {
  // A zero and the schema's number, big-endian; those below 2^24 tell it from UTF-16, and what
  // follows from UTF-32.
  if (bytes.size() < 6 || bytes[0] != 0 || bytes[1] != 0) return {};
  if (bytes[2] == 0 && bytes[3] != 0 && bytes[4] == 0 && bytes[5] == 0) return {};
  return bytes.substr(5);
}

std::optional<Error> NameForeign(std::string_view bytes) {
  const auto is_zero = [&](size_t at) { return at < bytes.size() && bytes[at] == 0; };
  const auto not_utf8 = [](const std::string& what) {
    return Error{
        Code::kInvalidUtf8, "not UTF-8 but " + what,
        "write UTF-8 (PowerShell: Out-File -Encoding utf8; .NET: new UTF8Encoding(false))"};
  };
  if (bytes.starts_with("\x1f\x8b")) {
    return Error{Code::kInvalidUtf8, "not UTF-8 but gzip data",
                 "send the JSON itself; Kafka's own compression and .gz files are read"};
  }
  if (!BehindFraming(bytes).empty()) {
    return Error{Code::kInvalidJson,
                 "not JSON: a schema registry's framing (a zero byte and a schema's number) stands "
                 "before the value",
                 "use a plain JSON serializer in the producer, without a schema registry"};
  }
  const bool has_mark = bytes.starts_with("\xff\xfe") || bytes.starts_with("\xfe\xff");
  if (bytes.empty() || (!has_mark && !is_zero(0) && !is_zero(1))) return std::nullopt;
  const size_t text = has_mark ? 2 : 0;
  if (is_zero(text + 1) && (is_zero(text) || is_zero(text + 2))) return not_utf8("UTF-32");
  return not_utf8(has_mark ? "UTF-16 (it begins with its byte order mark)"
                           : "UTF-16 (each second byte is zero)");
}

}  // namespace nudge
