// labels: unit graph
// Adapter snapshots over HTTP: the list, files in ranges, news as they come. Real snapshots lie in
// a real folder, and real sockets fetch them.
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "connectors/http/http_server.h"
#include "connectors/http/keys.h"
#include "tests/http_client.h"
#include "tests/http_door.h"
#include "tests/snapshot_sample.h"
#include "tests/temp_folder.h"

using namespace nudge;
using namespace nudge::testing;
using Json = nlohmann::json;
using std::chrono::milliseconds;

namespace {

HttpOptions AnyPort() {
  HttpOptions options;
  options.port = 0;
  return options;
}

class Shelf {
 public:
  explicit Shelf(HttpOptions options = AnyPort()) : server(options, door_) {
    door_.ServeSnapshots(folder());
  }
  std::string folder() const { return folder_.path() + "/snapshots"; }

  Reply Get(const std::string& path, const std::string& headers = "") {
    return Call(server.port(), Request("GET", path, "", headers));
  }
  Json List(const std::string& path) {
    const Reply reply = Get(path);
    BOOST_TEST(reply.status == 200, reply.body);
    return Json::parse(reply.body);
  }
  StandInDoor& door() { return door_; }

 private:
  TempFolder folder_;
  StandInDoor door_;

 public:
  const HttpServer server;
};

constexpr uint32_t kManyLayers = 128;

std::string NameOf(const SnapshotRef& snapshot) {
  return snapshot.uri.substr(snapshot.uri.rfind('/') + 1);
}

// An outcome that names a snapshot, as the outcome log has it.
std::string Naming(int64_t offset, const std::string& tenant, const SnapshotRef& snapshot) {
  Outcome outcome{tenant, "/t", "e" + std::to_string(offset), "nudge.feedback", {}, {snapshot}};
  outcome.what = Applied{"learnt", std::nullopt, std::nullopt};
  std::string line;
  Origin origin;
  origin.offset = offset;
  EncodeOutcome(outcome, origin, line);
  AppendChain(NextChain({}, offset, line), line);
  return line;
}

// One event of a stream: what stands between two blank lines, beats and comments left out.
std::string NextEvent(Connection& stream) {
  for (;;) {
    const std::string size = stream.ReadTo("\r\n");
    if (size.empty()) return "";
    std::string piece = stream.ReadTo("\n\n");
    stream.ReadTo("\r\n");
    if (!piece.starts_with(":") && !piece.starts_with("retry")) return piece;
  }
}

void Watch(Connection& stream, const std::string& tenant, const std::string& last = "") {
  stream.Send(Request("GET", "/v1/adapters/" + tenant + "/events", "",
                      last.empty() ? "" : "Last-Event-ID: " + last + "\r\n"));
  const std::string head = stream.ReadTo("\r\n\r\n");
  BOOST_TEST(head.starts_with("HTTP/1.1 200"), head);
  BOOST_TEST(head.find("text/event-stream") != std::string::npos, head);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_list_has_each_snapshot_as_its_manifest_says_the_newest_first) {
  Shelf shelf;
  const SnapshotRef second = WriteSample(shelf.folder(), "acme", 2);
  const SnapshotRef tenth = WriteSample(shelf.folder(), "acme", 10);
  WriteSample(shelf.folder(), "other", 3);
  std::filesystem::create_directory(shelf.folder() + "/acme/.tmp-11-aa-bb");
  std::filesystem::create_directory(shelf.folder() + "/acme/12-aa-bb");  // without a manifest
  const Json page = shelf.List("/v1/adapters/acme");
  BOOST_TEST(page["tenant"] == "acme");
  BOOST_TEST(page["before"].is_null());
  BOOST_REQUIRE(page["snapshots"].size() == 2);
  const Json& newest = page["snapshots"].at(0);
  BOOST_TEST(newest["name"] == NameOf(tenth));
  BOOST_TEST(newest["version"] == 10);
  BOOST_TEST(newest["digest"] == tenth.digest);
  BOOST_TEST(newest["base"]["name"] == "someone/some-base");
  BOOST_TEST(newest["base"]["sha256"] == std::string(64, 'a'));
  BOOST_TEST(newest["steps"] == 12);
  BOOST_TEST(page["snapshots"].at(1)["name"] == NameOf(second));
  BOOST_REQUIRE(newest["files"].size() == 3);
  for (const Json& file : newest["files"]) {
    const Reply reply = shelf.Get(file["path"]);
    BOOST_TEST(reply.status == 200);
    BOOST_TEST(reply.body.size() == file["bytes"]);
    BOOST_TEST(Sha256Hex(reply.body) == file["sha256"]);
    BOOST_TEST(reply.headers.at("ETag") == file["sha256"].dump());
  }
  BOOST_TEST(shelf.List("/v1/adapters/nobody")["snapshots"].empty());
}

BOOST_AUTO_TEST_CASE(a_long_list_comes_page_by_page) {
  Shelf shelf;
  for (uint32_t version = 1; version <= 5; ++version) WriteSample(shelf.folder(), "acme", version);
  WriteSample(shelf.folder(), "acme", 3, 2);  // of another log: the same number, other weights
  std::string versions;
  std::string before;
  for (int pages = 0; pages < 10; ++pages) {
    const Json page = shelf.List("/v1/adapters/acme?limit=2" + before);
    for (const Json& one : page["snapshots"]) {
      versions += std::to_string(one["version"].get<int>()) + " ";
    }
    if (page["before"].is_null()) break;
    before = "&before=" + page["before"].get<std::string>();
  }
  BOOST_TEST(versions == "5 4 3 3 2 1 ");
  BOOST_TEST(shelf.Get("/v1/adapters/acme?limit=0").status == 400);
  BOOST_TEST(shelf.Get("/v1/adapters/acme?limit=101").status == 400);
  BOOST_TEST(shelf.List("/v1/adapters/acme?before=nonsense")["snapshots"].empty());
}

BOOST_AUTO_TEST_CASE(a_file_comes_in_ranges_and_not_again_to_whom_has_it) {
  Shelf shelf;
  const SnapshotRef snapshot = WriteSample(shelf.folder(), "acme", 7, 1, kManyLayers);
  const std::string path = "/v1/adapters/acme/" + NameOf(snapshot) + "/adapter.gguf";
  const std::string whole = FileBytes(shelf.folder() + "/" + snapshot.uri + "/adapter.gguf");
  const std::string tag = "\"" + snapshot.sha256 + "\"";
  const size_t size = whole.size();
  BOOST_TEST(size > 512'000);  // more than one piece
  const auto get = [&](const std::string& headers) { return shelf.Get(path, headers); };
  BOOST_TEST((get("").body == whole));
  BOOST_TEST((shelf.Get("/v1/adapters/acme/7/adapter.gguf").body == whole));

  const Reply part = get("Range: bytes=10-19\r\n");
  BOOST_TEST(part.status == 206);
  BOOST_TEST((part.body == whole.substr(10, 10)));
  BOOST_TEST(part.headers.at("Content-Range") == "bytes 10-19/" + std::to_string(size));
  BOOST_TEST((get("Range: bytes=10-\r\n").body == whole.substr(10)));
  BOOST_TEST((get("Range: bytes=-10\r\n").body == whole.substr(size - 10)));
  BOOST_TEST((get("Range: bytes=0-99999999\r\n").body == whole));
  BOOST_TEST((get("Range: bytes=-99999999\r\n").body == whole));
  const Reply none = get("Range: bytes=" + std::to_string(size) + "-\r\n");
  BOOST_TEST(none.status == 416);
  BOOST_TEST(none.headers.at("Content-Range") == "bytes */" + std::to_string(size));
  BOOST_TEST(get("Range: bytes=-0\r\n").status == 416);
  for (const char* odd : {"bytes=0-1,4-5", "bytes=5-4", "bytes=x-1", "bytes=", "lines=1-2",
                          "bytes=18446744073709551616-", "bytes=-"}) {
    const Reply reply = get(std::string("Range: ") + odd + "\r\n");
    BOOST_TEST(reply.status == 200, odd);
    BOOST_TEST((reply.body == whole), odd);
  }
  for (const std::string& has : {tag, "W/" + tag, "\"a\", " + tag, std::string("*")}) {
    const Reply reply = get("If-None-Match: " + has + "\r\n");
    BOOST_TEST(reply.status == 304, has);
    BOOST_TEST(reply.headers.at("ETag") == tag);
  }
  BOOST_TEST(get("If-None-Match: \"a\"\r\n").status == 200);
  BOOST_TEST(get("If-None-Match: " + tag + "\r\nRange: bytes=0-0\r\n").status == 304);
  BOOST_TEST(get("If-Range: " + tag + "\r\nRange: bytes=0-0\r\n").status == 206);
  for (const std::string& other :
       {std::string("\"a\""), "W/" + tag, std::string("Sun, 29 Nov 2026 00:00:00 GMT")}) {
    BOOST_TEST(get("If-Range: " + other + "\r\nRange: bytes=0-0\r\n").status == 200, other);
  }
  Connection connection(shelf.server.port());  // goes on serving, after bodies and without one
  connection.Send("HEAD " + path + " HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-0\r\n\r\n");
  const std::string head = connection.ReadTo("\r\n\r\n");
  BOOST_TEST(head.find("Content-Length: " + std::to_string(size)) != std::string::npos, head);
  connection.Send(Request("GET", path) + Request("GET", path, "", "Range: bytes=0-0\r\n"));
  BOOST_TEST((connection.Receive().body == whole));
  BOOST_TEST((connection.Receive().body == whole.substr(0, 1)));
}

BOOST_AUTO_TEST_CASE(a_file_that_somebody_stops_taking_keeps_no_place) {
  HttpOptions options = AnyPort();
  options.write_timeout = milliseconds(200);
  options.connections_max = 2;
  Shelf shelf(options);
  WriteSample(shelf.folder(), "acme", 7, 1, kManyLayers);
  const std::string request = Request("GET", "/v1/adapters/acme/7/adapter.gguf");
  std::string many;
  for (int i = 0; i < 50; ++i) many += request;
  Connection stuck(shelf.server.port());  // takes nothing
  stuck.Send(many);
  {
    Connection gone(shelf.server.port());
    gone.Send(request);
    gone.ReadTo("\r\n\r\n");
  }
  bool both = false;
  for (int i = 0; i < 600 && !both; ++i) {
    Connection first(shelf.server.port()), second(shelf.server.port());
    first.Send(Request("GET", "/v1/models"));
    second.Send(Request("GET", "/v1/models"));
    both = first.Receive().status == 200 && second.Receive().status == 200;
    if (!both) std::this_thread::sleep_for(milliseconds(10));
  }
  BOOST_TEST(both);
}

BOOST_AUTO_TEST_CASE(nothing_but_a_manifests_files_is_opened_however_it_is_called) {
  Shelf shelf;
  const std::string name = NameOf(WriteSample(shelf.folder(), "acme", 7));
  WriteSample(shelf.folder(), "acme", 8, 1);
  WriteSample(shelf.folder(), "acme", 8, 2);
  const std::string place = shelf.folder() + "/acme/" + name;
  std::ofstream(place + "/secret.txt") << "secret";
  std::ofstream(shelf.folder() + "/acme/secret.txt") << "secret";
  const std::string base = "/v1/adapters/acme/";
  for (const std::string& path :
       {base + name + "/secret.txt", base + name + "/manifest.json",
        base + name + "/..%2Fsecret.txt", base + "..%2Facme%2F" + name + "/adapter.gguf",
        base + "%2E%2E/" + name, base + "./adapter.gguf", base + name + "%00/adapter.gguf",
        base + name + "/adapter.gguf%00", base + "9/adapter.gguf", base + "8/adapter.gguf",
        base + "07/adapter.gguf", base + name.substr(0, 9) + "/adapter.gguf",
        std::string("/v1/adapters/..%2Fsnapshots%2Facme/") + name + "/adapter.gguf",
        std::string("/v1/adapters/%2E%2E/") + name + "/adapter.gguf",
        std::string("/v1/adapters/other/") + name + "/adapter.gguf"}) {
    const Reply reply = shelf.Get(path);
    BOOST_TEST(reply.status == 404, path << ": " << reply.status);
    BOOST_TEST(reply.body.find("secret\n") == std::string::npos);
  }
  BOOST_TEST(shelf.Get(base + "/adapter.gguf").status == 404);
  // A link, and a file that is not as its manifest says.
  std::filesystem::rename(place + "/adapter_config.json", place + "/moved");
  std::filesystem::create_symlink(place + "/moved", place + "/adapter_config.json");
  BOOST_TEST(shelf.Get(base + name + "/adapter_config.json").status == 404);
  std::filesystem::resize_file(place + "/adapter.gguf", 100);
  BOOST_TEST(shelf.Get(base + name + "/adapter.gguf").status == 500);
  BOOST_TEST(shelf.Get(base + name + "/adapter_model.safetensors").status == 200);
}

BOOST_AUTO_TEST_CASE(adapters_need_the_role_read_of_their_tenant) {
  const TempFolder folder;
  HttpOptions options = AnyPort();
  options.keys_file = folder.path() + "/keys.jsonl";
  const auto add = [&](const std::string& tenant, Role role) {
    return "Authorization: Bearer " +
           AddKey({options.keys_file, tenant, "", false, {role}, 0}).value() + "\r\n";
  };
  const std::string asks = add("acme", Role::kAsk);
  const std::string reads = add("acme", Role::kRead);
  const std::string admin = add("acme", Role::kAdmin);
  const std::string other = add("other", Role::kAdmin);
  Shelf shelf(options);
  const std::string name = NameOf(WriteSample(shelf.folder(), "acme", 7));
  for (const std::string& path : {std::string(""), "/" + name + "/adapter.gguf"}) {
    BOOST_TEST(shelf.Get("/v1/adapters/acme" + path).status == 401);
    BOOST_TEST(shelf.Get("/v1/adapters/acme" + path, asks).status == 403);
    BOOST_TEST(shelf.Get("/v1/adapters/acme" + path, other).status == 403);
    BOOST_TEST(shelf.Get("/v1/adapters/acme" + path, reads).status == 200);
    BOOST_TEST(shelf.Get("/v1/adapters/acme" + path, admin).status == 200);
  }
  BOOST_TEST(shelf.Get("/v1/adapters/acme/events", asks).status == 403);
}

BOOST_AUTO_TEST_CASE(news_come_as_outcomes_name_snapshots_and_go_on_from_where_a_client_was) {
  Shelf shelf;
  const SnapshotRef snapshot = WriteSample(shelf.folder(), "acme", 7);
  SnapshotBoard& board = shelf.door().board();
  board.Add(0, Naming(0, "acme", snapshot));
  Connection stream(shelf.server.port());
  Watch(stream, "acme");
  BOOST_TEST(NextEvent(stream) == "id: 0\nevent: ready\ndata: {\"tenant\":\"acme\"}\n\n");
  board.Add(1, Naming(1, "other", snapshot));
  board.Add(2, Naming(2, "acme", snapshot));
  const std::string event = NextEvent(stream);
  const std::string mark = "id: 2\nevent: snapshot\ndata: ";
  BOOST_REQUIRE(event.starts_with(mark));
  const Json data = Json::parse(event.substr(mark.size()));
  BOOST_TEST(data["name"] == NameOf(snapshot));
  BOOST_TEST(data["version"] == 7);
  BOOST_TEST(data["sha256"] == snapshot.sha256);
  BOOST_TEST(data["offset"] == 2);
  BOOST_TEST(data["event_id"] == "e2");
  const auto ids_after = [&](const std::string& last, size_t events) {
    Connection again(shelf.server.port());
    Watch(again, "acme", last);
    std::string ids;
    for (size_t i = 0; i < events; ++i) {
      const std::string one = NextEvent(again);
      ids += one.substr(4, one.find("\ndata") - 4) + "|";
    }
    return ids;
  };
  BOOST_TEST(ids_after("0", 2) == "0\nevent: ready|2\nevent: snapshot|");
  BOOST_TEST(ids_after("2", 1) == "2\nevent: ready|");
  BOOST_TEST(ids_after("99", 1) == "2\nevent: lost|");  // of another log
  for (int64_t offset = 3; offset < 6; ++offset)
    board.Add(offset, Naming(offset, "acme", snapshot));
  BOOST_TEST(ids_after("1", 1) == "5\nevent: lost|");  // three are kept
  BOOST_TEST(ids_after("2", 4) ==
             "2\nevent: ready|3\nevent: snapshot|4\nevent: snapshot|5\nevent: snapshot|");
  BOOST_TEST(shelf.Get("/v1/adapters/acme/events", "Last-Event-ID: x\r\n").status == 400);
}

BOOST_AUTO_TEST_CASE(a_stream_shows_signs_of_life_and_ends_with_its_client) {
  HttpOptions options = AnyPort();
  options.beat = milliseconds(20);
  options.connections_max = 1;
  Shelf shelf(options);
  {
    Connection stream(shelf.server.port());
    Watch(stream, "acme");
    for (int i = 0; i < 3; ++i) stream.ReadTo(":\n\n");
  }
  int status = 0;  // its place is free again
  for (int i = 0; i < 600 && status != 200; ++i) {
    status = shelf.Get("/v1/models").status;
    if (status != 200) std::this_thread::sleep_for(milliseconds(10));
  }
  BOOST_TEST(status == 200);
  shelf.door().board().Add(0, Naming(0, "acme", {}));  // nobody is there to be told
}

BOOST_AUTO_TEST_CASE(a_server_that_ends_does_not_wait_for_streams) {
  StandInDoor door;
  auto server = std::make_unique<HttpServer>(AnyPort(), door);
  Connection stream(server->port());
  Watch(stream, "acme");
  const auto begin = std::chrono::steady_clock::now();
  server.reset();
  BOOST_TEST((std::chrono::steady_clock::now() - begin < milliseconds(900)));
  stream.ReadToEnd();
  door.board().Add(0, Naming(0, "acme", {}));
}
