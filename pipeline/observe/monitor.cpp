#include "pipeline/observe/monitor.h"

#include <httplib.h>

#include <chrono>
#include <thread>

#include "stages/result.h"

namespace nudge {
namespace {

constexpr size_t kThreads = 4;  // a slow client holds up none of the others
constexpr std::chrono::seconds kPatience{5};
constexpr size_t kRequestBytes = 1 << 10;
constexpr char kText[] = "text/plain; charset=utf-8";

std::string Lines(const std::vector<std::string>& sentences) {
  std::string lines;
  for (const std::string& sentence : sentences) lines += sentence + "\n";
  return lines;
}

}  // namespace

struct Monitor::Server {
  httplib::Server http;
  int port = 0;
  std::thread thread;
};

Monitor::Monitor(const std::string& address, uint16_t port) : server_(std::make_unique<Server>()) {
  httplib::Server& http = server_->http;
  http.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  http.set_keep_alive_max_count(1);  // an idle connection would keep a thread
  http.set_read_timeout(kPatience);
  http.set_write_timeout(kPatience);
  http.set_payload_max_length(kRequestBytes);
  // The library's own choice lets two processes have the same port.
  http.set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  http.set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
    if (request.method == "GET" || request.method == "HEAD") {
      return httplib::Server::HandlerResponse::Unhandled;
    }
    response.status = 405;
    response.set_header("Allow", "GET, HEAD");
    response.set_content("only GET: nothing can be changed from here\n", kText);
    return httplib::Server::HandlerResponse::Handled;
  });
  http.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(std::visit([](const auto& view) { return MetricsText(view); }, Look()),
                         "text/plain; version=0.0.4; charset=utf-8");
  });
  http.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("alive\n", kText);
  });
  http.Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
    const std::vector<std::string> why =
        std::visit([](const auto& view) { return WhyNotReady(view); }, Look());
    response.status = why.empty() ? 200 : 503;
    response.set_content(why.empty() ? "ready\n" : Lines(why), kText);
  });
  http.Get("/status", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(std::visit([](const auto& view) { return StatusJson(view); }, Look()),
                         "application/json");
  });
  http.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (response.status == 404 && response.body.empty()) {
      response.set_content("no such page: /metrics /healthz /readyz /status\n", kText);
    }
  });

  server_->port = port;
  if (port == 0) {
    server_->port = http.bind_to_any_port(address);
  } else if (!http.bind_to_port(address, port)) {
    server_->port = -1;
  }
  if (server_->port < 0) {
    throw StartError("monitor: cannot listen on " + address + ":" + std::to_string(port) +
                     ": the port is taken or the address is not this machine's: choose another "
                     "monitor.port (0: no monitor; a gateway has gateway.monitor_port) or "
                     "monitor.address");
  }
  server_->thread = std::thread([this] { server_->http.listen_after_bind(); });
  while (!http.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

Monitor::~Monitor() {
  server_->http.stop();
  server_->thread.join();
}

uint16_t Monitor::port() const {
  return static_cast<uint16_t>(server_->port);
}

Monitor::View Monitor::Look() {
  const MutexLock lock(mutex_);
  return look_ ? look_() : View{};
}

Monitor::Watch::Watch(Monitor& monitor, std::function<View()> look) : monitor_(monitor) {
  const MutexLock lock(monitor_.mutex_);
  monitor_.look_ = std::move(look);
}

Monitor::Watch::~Watch() {
  const MutexLock lock(monitor_.mutex_);
  monitor_.look_ = nullptr;
}

}  // namespace nudge
