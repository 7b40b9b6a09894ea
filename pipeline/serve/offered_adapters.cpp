#include "pipeline/serve/offered_adapters.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "stages/model/adapters/snapshot_folder.h"

namespace nudge {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr size_t kDigestDigits = 12;

// A tenant's folder and a snapshot's name, and nothing that leads elsewhere.
bool IsOf(const std::string& tenant, std::string_view uri) {
  const std::string folder = FolderNameOf(tenant) + "/";
  if (!uri.starts_with(folder)) return false;
  uri.remove_prefix(folder.size());
  return !uri.empty() && uri.find_first_not_of("0123456789abcdef-") == uri.npos;
}

}  // namespace

bool OfferedAdapters::Add(const std::string& tenant, const SnapshotRef& snapshot) {
  if (!IsOf(tenant, snapshot.uri)) return false;
  OfferedAdapter adapter{tenant,
                         FolderNameOf(tenant) + "-" + std::to_string(snapshot.version) + "-" +
                             snapshot.digest.substr(0, kDigestDigits),
                         snapshot.uri, snapshot.sha256, snapshot.digest};
  Drop(adapter.name);
  all_.push_back(std::move(adapter));
  Trim();
  return true;
}

void OfferedAdapters::Trim() {
  size_t wanted = 0;
  std::map<std::string, size_t> of_tenant;
  for (auto adapter = all_.rbegin(); adapter != all_.rend(); ++adapter) {
    if (!adapter->is_wanted) continue;
    adapter->is_wanted =
        ++of_tenant[adapter->tenant] <= versions_per_tenant_max_ && ++wanted <= adapters_max_;
  }
}

void OfferedAdapters::WantNone() {
  for (OfferedAdapter& adapter : all_) adapter.is_wanted = false;
}

void OfferedAdapters::Drop(const std::string& name) {
  std::erase_if(all_, [&](const OfferedAdapter& adapter) { return adapter.name == name; });
}

std::string OfferedAdapters::Text(const Positions& positions) const {
  Json json = {{"format", kFormat}, {"positions", Json::array()}, {"adapters", Json::array()}};
  for (const auto& [stream, position] : positions) {
    json["positions"].push_back(
        {{"topic", stream.first}, {"partition", stream.second}, {"position", position}});
  }
  for (const OfferedAdapter& adapter : all_) {
    json["adapters"].push_back({{"tenant", adapter.tenant},
                                {"name", adapter.name},
                                {"uri", adapter.uri},
                                {"sha256", adapter.sha256},
                                {"digest", adapter.digest},
                                {"is_wanted", adapter.is_wanted}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<OfferedAdapters::Positions> OfferedAdapters::Read(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("format") != kFormat) {
      return Error{Code::kUnreadableFile, "its format is another", ""};
    }
    Positions positions;
    for (const Json& one : json.at("positions")) {
      positions[{one.at("topic"), one.at("partition")}] = one.at("position");
    }
    std::vector<OfferedAdapter> all;
    for (const Json& one : json.at("adapters")) {
      all.push_back({one.at("tenant"), one.at("name"), one.at("uri"), one.at("sha256"),
                     one.at("digest"), one.at("is_wanted")});
    }
    all_ = std::move(all);
    Trim();  // the limits may be others
    return positions;
  } catch (const Json::exception&) {
    return Error{Code::kUnreadableFile, "it is not what nudge follow wrote", ""};
  }
}

}  // namespace nudge
