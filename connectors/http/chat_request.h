// A chat completion's request as OpenAI's clients write it, as far as nudge can do what it asks.
//
//   JSON -> [ReadChat] -> ChatRequest | HttpRefusal
//
// What can be done is done, what changes nothing is accepted at its neutral value, and what cannot
// be done is refused by its name, so that no client believes that it was. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "connectors/http/exchange.h"
#include "connectors/json_reader.h"
#include "stages/chat.h"

namespace nudge {

struct ChatRequest {
  std::string model;
  std::string question;              // the last user message
  std::vector<ChatMessage> earlier;  // turns of user and assistant, oldest first
  bool stream = false;
  bool stream_usage = false;  // stream_options.include_usage
  std::optional<uint32_t> max_tokens;
  std::optional<double> temperature;
  std::optional<uint64_t> seed;
  std::string user;
  // Our extension: {"nudge": {"prompt_id", "event_id", "tenant", "conversation_id",
  // "groups", "filter"}}
  std::string prompt_id;
  std::string event_id;
  std::string tenant;
  std::string conversation_id;
  std::string rights;  // groups and filter, as members of JSON: the event's reader judges them
};

std::variant<ChatRequest, HttpRefusal> ReadChat(JsonValue root, size_t messages_max);

}  // namespace nudge
