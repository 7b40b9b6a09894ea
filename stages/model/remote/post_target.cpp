// The addresses of http_post.h, on their own: configurations are checked with them.
#include <algorithm>
#include <string>

#include "stages/model/remote/http_post.h"

namespace nudge {
namespace {

Error WrongUrl(std::string message) {
  return {Code::kInvalidEvent, std::move(message),
          "give it as http://HOST:PORT/v1 or https://HOST/v1"};
}

}  // namespace

Result<PostTarget> ReadTarget(std::string_view url) {
  PostTarget target;
  if (url.starts_with("https://")) {
    target.has_tls = true;
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    url.remove_prefix(7);
  } else {
    return WrongUrl("begins with neither http:// nor https://");
  }
  const auto is_plain = [](char c) { return c > 0x20 && c < 0x7F; };
  if (!std::all_of(url.begin(), url.end(), is_plain)) {
    return WrongUrl("has blanks or bytes beyond ASCII");
  }
  const size_t slash = std::min(url.find('/'), url.size());
  const std::string_view authority = url.substr(0, slash);
  target.path = url.substr(slash);
  while (target.path.ends_with('/')) target.path.pop_back();
  if (authority.find('@') != authority.npos) {
    return WrongUrl("has a user or password in it: a key belongs in a file of its own");
  }
  if (url.find_first_of("?#") != url.npos) return WrongUrl("has a query or a fragment");
  target.authority = authority;
  const size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
  if (bracket == authority.npos) return WrongUrl("has a [ without a ]");
  const size_t colon = authority.find(':', bracket);
  target.host = authority.substr(0, std::min(colon, authority.size()));
  if (bracket > 0) target.host = target.host.substr(1, bracket - 1);
  target.port = target.has_tls ? "443" : "80";
  if (colon != authority.npos) target.port = authority.substr(colon + 1);
  const bool is_number = !target.port.empty() && target.port.size() <= 5 &&
                         target.port.find_first_not_of("0123456789") == std::string::npos;
  if (target.host.empty() || !is_number || std::stoul(target.port) == 0 ||
      std::stoul(target.port) > 65535) {
    return WrongUrl("has no host, or no port of 1..65535");
  }
  return target;
}

}  // namespace nudge
