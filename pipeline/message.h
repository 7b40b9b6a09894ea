// The envelope of every event in the graph, what its edges carry, and the one wrapper through which
// a node calls a stage.
//
// Exactly one message leaves a stage for each that enters, faults included: an order that misses
// one waits for ever. So a stage's error does not stop a message, it becomes its Fault, later
// stages pass it on untouched, and respond turns it into a dead letter. Messages are copied freely
// between threads. What they point to never changes, except the barrier, to which several threads
// may add at once.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "connectors/codec.h"
#include "pipeline/barrier.h"
#include "pipeline/observe/metrics.h"
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

// What an edge carries. Messages that came together go on together, so that an edge and a node cost
// once for all of them. A message that a model works on is late, and goes on alone.
template <class T>
struct Batch {
  uint64_t number = 0;  // behind the log order they are numbered, from 0 on
  std::shared_ptr<const std::vector<Message<T>>> messages;  // 1..
};

// Batch<In> -> Batch<Out>, message by message: each(const Message<In>&) -> Message<Out>.
template <class Out, class In, class Each>
Batch<Out> ForEach(const Batch<In>& in, Each&& each) {
  const auto messages = std::make_shared<std::vector<Message<Out>>>();
  messages->reserve(in.messages->size());
  for (const Message<In>& message : *in.messages) messages->push_back(each(message));
  return {in.number, messages};
}

// Message<In> -> stage -> Message<Out>. `apply` is called with the body and returns Result<Out>; an
// exception that leaves it becomes an internal error, since one that left a node would end the
// graph without a word. It is not called for a message that was abandoned.
template <class Out, class In, class Apply>
Message<Out> RunStage(const char* stage, NodeMetrics::Laps& laps, const Message<In>& in,
                      Apply&& apply) noexcept {
  Message<Out> out = in.template WithoutBody<Out>();
  if (in.fault) return out;
  if (in.abandoned()) {
    static const auto kAbandoned = std::make_shared<const Fault>(
        Fault{"graph", {Code::kInternal, "the partition was taken away", ""}});
    out.fault = kAbandoned;
    return out;
  }
  try {
    Result<Out> result = apply(*in.body);
    if (result.ok()) {
      out.body = std::make_shared<const Out>(std::move(result).value());
    } else {
      laps.CountError();
      out.fault = std::make_shared<const Fault>(Fault{stage, result.error()});
    }
  } catch (const std::exception& exception) {
    laps.CountError();
    out.fault = std::make_shared<const Fault>(
        Fault{stage,
              {Code::kInternal, std::string("exception in ") + stage + ": " + exception.what(),
               "this is a defect of nudge: please report it with the event"}});
  }
  laps.Lap();
  return out;
}

}  // namespace nudge
