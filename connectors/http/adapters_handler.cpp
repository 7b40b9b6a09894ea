// The snapshots of a tenant's adapter: a list, their files, and news of further ones.
#include <charconv>

#include "connectors/http/event_draft.h"
#include "connectors/http/file_range.h"
#include "connectors/http/handlers.h"
#include "connectors/http/request_target.h"
#include "connectors/json_writer.h"

namespace nudge {
namespace {

constexpr uint64_t kSnapshotsUsual = 20;
constexpr uint64_t kSnapshotsMost = 100;

std::string Part(const HttpRequest& request, size_t at) {
  return PercentDecoded(request.Parts().at(at));
}

// The tenant of the path: weights can give away what they were trained on.
std::variant<std::string, HttpRefusal> TenantToRead(const HttpRequest& request,
                                                    const Scene& scene) {
  if (!scene.caller.May(Role::kRead)) {
    return HttpRefusal{403, "role_missing", "adapters need the role read",
                       "use a key that has it (nudge key add --roles)", ""};
  }
  return TenantOf(scene.caller, request, Part(request, 2));
}

HttpResponse OfDisk(const Error& error) {
  return ToResponse(ToRefusal(error, error.code == Code::kUnavailable ? 503 : 500));
}

std::string PathTo(const std::string& tenant, const std::string& snapshot,
                   const std::string& file) {
  return "/v1/adapters/" + PercentEncoded(tenant) + "/" + snapshot + "/" + PercentEncoded(file);
}

void Write(const std::string& tenant, const PublishedSnapshot& snapshot, JsonWriter& json) {
  json.Raw(R"({"name":)").Text(snapshot.name);
  json.Raw(R"(,"version":)").Integer(snapshot.version);
  json.Raw(R"(,"digest":)").Text(snapshot.digest);
  json.Raw(R"(,"values_digest":)").Text(snapshot.values_digest);
  json.Raw(R"(,"parent_digest":)").Text(snapshot.parent_digest);
  json.Raw(R"(,"base":{"name":)").Text(snapshot.base_name);
  json.Raw(R"(,"sha256":)").Text(snapshot.base_sha256);
  json.Raw(R"(,"architecture":)").Text(snapshot.base_architecture);
  json.Raw(R"(},"steps":)").Integer(snapshot.steps);
  json.Raw(R"(,"examples":)").Integer(snapshot.examples).Raw(R"(,"files":[)");
  bool first = true;
  for (const PublishedSnapshot::File& file : snapshot.files) {
    json.Raw(std::exchange(first, false) ? R"({"name":)" : R"(,{"name":)").Text(file.name);
    json.Raw(R"(,"bytes":)").Integer(file.size_bytes);
    json.Raw(R"(,"sha256":)").Text(file.sha256);
    json.Raw(R"(,"path":)").Text(PathTo(tenant, snapshot.name, file.name)).Raw("}");
  }
  json.Raw("]}");
}

HttpResponse ListOf(const Door& door, const SnapshotsAsked& asked) {
  const auto snapshots = door.Snapshots(asked);
  if (!snapshots.ok()) return OfDisk(snapshots.error());
  HttpResponse response;
  JsonWriter json(response.body);
  json.Raw(R"({"tenant":)").Text(asked.tenant).Raw(R"(,"snapshots":[)");
  bool first = true;
  for (const PublishedSnapshot& snapshot : *snapshots) {
    json.Raw(std::exchange(first, false) ? "" : ",");
    Write(asked.tenant, snapshot, json);
  }
  json.Raw(R"(],"before":)");
  if (snapshots->size() == asked.snapshots_max) {
    json.Text(snapshots->back().name);
  } else {
    json.Raw("null");
  }
  json.Raw("}");
  return response;
}

HttpErrandEnd FileOf(const HttpRequest& request, const Door& door, const std::string& tenant) {
  const std::string snapshot = Part(request, 3);
  const std::string name = Part(request, 4);
  const auto found = door.OpenSnapshotFile(tenant, snapshot, name);
  if (!found.ok()) return OfDisk(found.error());
  if (!*found) {
    return ToResponse(
        {404, "no_such_file",
         "no file " + Quoted(name) + " of a snapshot " + Quoted(snapshot) + " of this tenant",
         "GET /v1/adapters/{tenant} has the names; the number of a version will do "
         "where one snapshot has it",
         ""});
  }
  const PublishedSnapshot::File& file = (*found)->file;
  const std::string entity_tag = '"' + file.sha256 + '"';
  const FileRange range = RangeOf(request, entity_tag, file.size_bytes);
  const std::string of_all = "/" + std::to_string(file.size_bytes);
  HttpFile sent;
  sent.file = (*found)->open;
  sent.begin = range.begin;
  sent.end = range.end;
  if (range.status == 416) {
    HttpResponse refused = ToResponse({416, "no_such_range",
                                       "the file has " + std::to_string(file.size_bytes) + " bytes",
                                       "ask for bytes that it has", ""});
    refused.headers.emplace_back("Content-Range", "bytes *" + of_all);
    return refused;
  }
  sent.head.status = range.status;
  sent.head.type = file.name.ends_with(".json") ? "application/json" : "application/octet-stream";
  // Of the caller's alone, and asked about each time: folders may be deleted.
  sent.head.headers = {
      {"ETag", entity_tag}, {"Accept-Ranges", "bytes"}, {"Cache-Control", "private, no-cache"}};
  if (range.status == 304) {
    sent.head.type.clear();
    return sent.head;
  }
  if (range.status == 206) {
    sent.head.headers.emplace_back("Content-Range", "bytes " + std::to_string(range.begin) + "-" +
                                                        std::to_string(range.end - 1) + of_all);
  }
  return sent;
}

// As a server-sent event; its id is where to go on.
std::string EventOf(const std::string& tenant, const SnapshotNews& news) {
  std::string out;
  JsonWriter json(out);
  if (news.offset >= 0) json.Raw("id: ").Integer(news.offset).Raw("\n");
  if (news.kind != SnapshotNews::Kind::kSnapshot) {
    json.Raw(news.kind == SnapshotNews::Kind::kReady ? "event: ready\n" : "event: lost\n");
    json.Raw(R"(data: {"tenant":)").Text(tenant).Raw("}\n\n");
    return out;
  }
  const SnapshotRef& snapshot = news.snapshot;
  const size_t slash = snapshot.uri.rfind('/');
  json.Raw("event: snapshot\n");
  json.Raw(R"(data: {"tenant":)").Text(tenant);
  json.Raw(R"(,"name":)").Text(snapshot.uri.substr(slash + 1));  // npos + 1 is 0
  json.Raw(R"(,"version":)").Integer(snapshot.version);
  json.Raw(R"(,"digest":)").Text(snapshot.digest);
  json.Raw(R"(,"parent_digest":)").Text(snapshot.parent_digest);
  json.Raw(R"(,"sha256":)").Text(snapshot.sha256);
  json.Raw(R"(,"base_sha256":)").Text(snapshot.base_sha256);
  json.Raw(R"(,"offset":)").Integer(news.offset);
  json.Raw(R"(,"event_id":)").Text(news.event_id).Raw("}\n\n");
  return out;
}

}  // namespace

Handled GetAdapters(const HttpRequest& request, const Scene& scene) {
  if (auto refused = RefuseWithoutState(scene)) return *std::move(refused);
  auto tenant = TenantToRead(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&tenant)) return ToResponse(*refusal);
  const auto limit = NumberOf(request, "limit", 1, kSnapshotsMost, kSnapshotsUsual);
  if (const auto* refusal = std::get_if<HttpRefusal>(&limit)) return ToResponse(*refusal);
  SnapshotsAsked asked;
  asked.tenant = std::get<std::string>(std::move(tenant));
  asked.before = std::string(request.Query("before"));
  asked.snapshots_max = std::get<uint64_t>(limit);
  return HttpErrand{[&door = scene.door, asked = std::move(asked)] { return ListOf(door, asked); }};
}

Handled GetAdapterFile(const HttpRequest& request, const Scene& scene) {
  if (auto refused = RefuseWithoutState(scene)) return *std::move(refused);
  auto tenant = TenantToRead(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&tenant)) return ToResponse(*refusal);
  return HttpErrand{[request, &door = scene.door, tenant = std::get<std::string>(tenant)] {
    return FileOf(request, door, tenant);
  }};
}

Handled GetAdapterEvents(const HttpRequest& request, const Scene& scene) {
  if (auto refused = RefuseWithoutState(scene)) return *std::move(refused);
  auto tenant = TenantToRead(request, scene);
  if (const auto* refusal = std::get_if<HttpRefusal>(&tenant)) return ToResponse(*refusal);
  const std::string_view last = request.Header("last-event-id");
  std::optional<int64_t> after;
  if (!last.empty()) {
    int64_t offset = 0;
    const auto [end, error] = std::from_chars(last.data(), last.data() + last.size(), offset);
    if (error != std::errc() || end != last.data() + last.size() || offset < 0) {
      return ToResponse({400, "invalid_parameter", "Last-Event-ID: " + Quoted(last) + " is none",
                         "send the id of the last event, or none", ""});
    }
    after = offset;
  }
  HttpFeed feed;
  feed.head.type = "text/event-stream; charset=utf-8";
  feed.head.headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
  feed.head.body = "retry: 2000\n\n";
  feed.beat = ":\n\n";
  feed.open = [&door = scene.door, tenant = std::get<std::string>(std::move(tenant)),
               after](std::function<void(std::string)> send) {
    return door.WatchSnapshots(tenant, after, [tenant, send = std::move(send)](const auto& news) {
      send(EventOf(tenant, news));
    });
  };
  return feed;
}

}  // namespace nudge
