// Result<T>: a value or an Error. The one way in which a part of nudge says "no" after start-up.
//
// An Error is data: it travels along the graph's edges like a value and ends in a dead letter, so
// it carries what its reader needs: a stable code, what is wrong and where, and what to do about
// it. Any thread; values, no sharing.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace nudge {

// Stable names in dead letters and logs. Add at the end; a name once released keeps its meaning.
enum class Code {
  kInvalidJson,       // not JSON, or truncated
  kInvalidUtf8,       // bytes that are not UTF-8
  kInvalidEvent,      // a field is missing, of the wrong type or out of range; message has its path
  kUnknownType,       // an event type that nudge does not know
  kTooLarge,          // a text, list or line over its configured limit
  kUnknownQuery,      // feedback about a query that was never seen
  kQueryTooOld,       // feedback about a query that left the bounded record
  kUnknownPrompt,     // a prompt_id that is not there
  kTenantLimit,       // a limit of the tenant is reached: documents, chunks, prompts
  kWrongAdapter,      // an adapter of another base, rank, shape, digest, or with non-finite numbers
  kUnreadableFile,    // a file that is missing, truncated or not what it should be
  kModelFailed,       // the model or the embedder refused: text does not fit, context lost
  kUnsupportedModel,  // a model that is served but cannot be trained, or not at all
  kInternal,          // a defect: an exception that escaped a stage
  // These end a call or the process, never an event.
  kFenced,       // another process has taken this one's place
  kNotOwner,     // the partition went to another process before its outcomes were committed
  kUnavailable,  // another system does not answer, or refuses
  // An event's again.
  kChangedEvent,  // the same id and source as an earlier event, with other content
  kBusy,          // too much is in flight: nothing was taken, and the same later may be; no event's
  kForbidden,     // a command without the signature of a key that may command its tenant
};
inline constexpr Code kLastCode = Code::kForbidden;

// "invalid_json" and so on.
std::string_view Name(Code code);

struct Error {
  Code code = Code::kInternal;
  std::string message;  // lower case: what is wrong and where
  std::string remedy;   // what to do; may be empty

  friend bool operator==(const Error&, const Error&) = default;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Require ok().
  const T& value() const& { return std::get<0>(state_); }
  T& value() & { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  const T& operator*() const& { return value(); }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  const T* operator->() const { return &value(); }
  T* operator->() { return &value(); }

  // Require !ok().
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

// A Result without a value.
struct Nothing {
  friend bool operator==(const Nothing&, const Nothing&) = default;
};

// Thrown at start-up only (bad configuration, missing files), caught in main: one line for the
// user.
class StartError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An invariant of nudge itself, not of its input: ends the process, since going on would write a
// state that the log does not explain.
#define ENSURE(condition)                                                                 \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      std::fprintf(stderr, "nudge: invariant broken: %s (%s:%d)\n", #condition, __FILE__, \
                   __LINE__);                                                             \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

}  // namespace nudge
