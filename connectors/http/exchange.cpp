#include "connectors/http/exchange.h"

#include <algorithm>

#include "connectors/json_writer.h"

namespace nudge {
namespace {

// As OpenAI's clients know them.
std::string_view TypeOf(unsigned status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

std::string_view In(const std::map<std::string, std::string>& map, std::string_view name) {
  const auto found = map.find(std::string(name));
  return found == map.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  return In(headers, name);
}

std::string_view HttpRequest::Query(std::string_view name) const {
  return In(query, name);
}

std::string HttpRequest::MediaType() const {
  const std::string_view whole = Header("content-type");
  std::string media(whole.substr(0, whole.find(';')));
  media.erase(std::min(media.find_last_not_of(" \t") + 1, media.size()));  // npos + 1 is 0
  media.erase(0, media.find_first_not_of(" \t"));
  for (char& c : media) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return media;
}

std::vector<std::string_view> HttpRequest::Parts() const {
  std::vector<std::string_view> parts;
  std::string_view rest = path;
  while (rest.starts_with('/')) {
    rest.remove_prefix(1);
    parts.push_back(rest.substr(0, rest.find('/')));
    rest.remove_prefix(parts.back().size());
  }
  return parts;
}

std::string ErrorJson(const HttpRefusal& refusal) {
  std::string body;
  JsonWriter json(body);
  json.Raw(R"({"error":{"message":)").Text(refusal.message);
  json.Raw(R"(,"type":)").Text(TypeOf(refusal.status)).Raw(R"(,"param":)");
  if (refusal.param.empty()) {
    json.Raw("null");
  } else {
    json.Text(refusal.param);
  }
  json.Raw(R"(,"code":)").Text(refusal.code).Raw(R"(,"stage":"http","remedy":)");
  json.Text(refusal.remedy).Raw("}}");
  return body;
}

HttpResponse ToResponse(const HttpRefusal& refusal) {
  HttpResponse response;
  response.status = refusal.status;
  response.body = ErrorJson(refusal);
  if (refusal.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

HttpRefusal ToRefusal(const Error& error, unsigned status) {
  if (error.code == Code::kTooLarge && status == 400) status = 413;
  return {status, std::string(Name(error.code)), error.message, error.remedy, ""};
}

}  // namespace nudge
