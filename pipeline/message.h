// The envelope on every edge of the graph, and the one wrapper through which a node calls a stage.
//
// Exactly one message leaves a node for each that enters, faults included: a join that misses one
// waits for ever. So a stage's error does not stop a message, it becomes its Fault, later stages
// pass it on untouched, and respond turns it into a dead letter. Copied freely between threads;
// what it points to never changes, but for the barrier, which is made for many hands.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "connectors/codec.h"
#include "pipeline/barrier.h"
#include "pipeline/metrics.h"
#include "stages/events.h"
#include "stages/result.h"

namespace nudge {

// Where an event ended before its time.
struct Fault {
  std::string stage;
  Error error;
};

template <class T>
struct Message {
  std::shared_ptr<const Origin> origin;
  std::shared_ptr<const T> body;  // one of body and fault is set
  std::shared_ptr<const Fault> fault;
  std::shared_ptr<Barrier> barrier;  // rides on the last event before a checkpoint; else empty
  std::shared_ptr<const RecordedOutcome>
      recorded;  // recovery: the outcome that was committed for this event

  Sequence sequence() const { return origin->sequence; }
  bool abandoned() const { return origin->stay && origin->stay->over; }

  // The same message with nothing but a fault.
  template <class U>
  Message<U> WithoutBody() const {
    return {origin, nullptr, fault, barrier, recorded};
  }
};

// Message<In> -> stage -> Message<Out>. `apply` is called with the body and returns Result<Out>; an
// exception that leaves it becomes an internal error, since one that left a node would end the
// graph without a word. It is not called for a message that was abandoned.
template <class Out, class In, class Apply>
Message<Out> RunStage(const char* stage, NodeMetrics& metrics, const Message<In>& in,
                      Apply&& apply) noexcept {
  Message<Out> out = in.template WithoutBody<Out>();
  if (in.fault) return out;
  if (in.abandoned()) {
    static const auto kAbandoned = std::make_shared<const Fault>(
        Fault{"graph", {Code::kInternal, "the partition was taken away", ""}});
    out.fault = kAbandoned;
    return out;
  }
  const NodeMetrics::Timer timer(metrics);
  try {
    Result<Out> result = apply(*in.body);
    if (result.ok()) {
      out.body = std::make_shared<const Out>(std::move(result).value());
    } else {
      metrics.CountError();
      out.fault = std::make_shared<const Fault>(Fault{stage, result.error()});
    }
  } catch (const std::exception& exception) {
    metrics.CountError();
    out.fault = std::make_shared<const Fault>(
        Fault{stage,
              {Code::kInternal, std::string("exception in ") + stage + ": " + exception.what(),
               "this is a defect of nudge: please report it with the event"}});
  }
  return out;
}

}  // namespace nudge
