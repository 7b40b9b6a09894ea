// What an HTTP server has answered, as plain values for who shows it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nudge {

struct HttpCounts {
  // Of answers: the first digit of their status, from 2.
  static constexpr std::array<std::string_view, 4> kClasses = {"2xx", "3xx", "4xx", "5xx"};
  // Of which there may be many although nothing is wrong with the client or the program.
  static constexpr std::array<unsigned, 3> kRefusals = {413, 429, 503};

  struct Route {
    std::string name;  // "POST /v1/events"; the last one, "other", stands for what is no path
    std::array<uint64_t, kClasses.size()> answers{};  // begun, since the start
  };
  std::vector<Route> routes;
  std::array<uint64_t, kRefusals.size()> refusals{};  // of those answers, by status
  uint32_t connections = 0;                           // open now
  uint32_t in_flight = 0;  // requests that are read and not yet answered to their end
};

}  // namespace nudge
