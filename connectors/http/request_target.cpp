#include "connectors/http/request_target.h"

#include <algorithm>

namespace nudge {
namespace {

int Digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

std::string PercentDecoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && Digit(text[i + 1]) >= 0 &&
        Digit(text[i + 2]) >= 0) {
      out += static_cast<char>(Digit(text[i + 1]) * 16 + Digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

void ReadTarget(std::string_view target, HttpRequest& request) {
  const size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark == target.npos) return;
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(pair.size() + 1, rest.size()));
    const size_t equals = pair.find('=');
    const auto decoded = [](std::string_view text) {
      std::string spaced(text);
      std::replace(spaced.begin(), spaced.end(), '+', ' ');
      return PercentDecoded(spaced);
    };
    if (pair.empty()) continue;
    request.query.emplace(decoded(pair.substr(0, equals)),
                          equals == pair.npos ? "" : decoded(pair.substr(equals + 1)));
  }
}

}  // namespace nudge
