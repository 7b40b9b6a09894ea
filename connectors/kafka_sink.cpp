#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>

#include "connectors/codec.h"
#include "connectors/kafka.h"
#include "connectors/kafka_mark.h"
#include "connectors/kafka_read_back.h"
#include "connectors/kafka_shared.h"

#include "stages/fault_point.h"

namespace nudge {

using namespace kafka;

class KafkaSink::Writer {
 public:
  explicit Writer(KafkaClient::Shared& shared);

  Result<Nothing> Append(const OutcomeLine& line);
  Result<Nothing> Commit();
  void Rest();
  void Drop(int32_t partition);
  Result<std::optional<Tail>> Last(int32_t partition);
  Result<Nothing> ReadBack(int32_t partition, int64_t offset, const Visit& visit);

 private:
  using Attempted = std::optional<Failure>;

  bool is_exactly_once() const {
    return shared_.options.delivery == KafkaOptions::Delivery::kExactlyOnce;
  }
  Attempted MakeProducer(Clock::time_point deadline);
  Attempted Rebuild(Clock::time_point deadline);
  bool MayBeTimedOut() const;
  Attempted Attempt(Clock::time_point begun, Clock::time_point deadline);
  Attempted Resolve(Clock::time_point deadline);
  Attempted Transact(const Marks& marks, Clock::time_point deadline);
  Attempted EndFailed(Failure failure, Clock::time_point deadline);
  Attempted SendTwice(const Marks& marks, Clock::time_point deadline);
  Attempted CommitOffsets(const Marks& marks, Clock::time_point deadline);
  Attempted Produce(Clock::time_point deadline);
  void ForgetCommitted();
  template <class Call>
  Attempted Repeat(const char* name, std::string_view what, Clock::time_point deadline,
                   const Call& call);
  Marks Progress() const;
  Clock::time_point CommittedDeadline() const;
  void Count(uint64_t KafkaStatistics::*counter);

  KafkaClient::Shared& shared_;
  Ear ear_;
  Handle producer_;
  std::array<Topic, 3> topics_;                        // by OutcomeKind
  bool is_broken_ = false;                             // the producer can do no more
  bool is_fenced_ = false;                             // by whom is not known yet
  Clock::time_point began_{Clock::time_point::max()};  // the newest transaction
  int undelivered_ = 0;  // messages of SendTwice that failed, and one of their codes
  int undelivered_code_ = 0;
  std::vector<OutcomeLine> lines_;
  Marks tried_;  // of lines that were sent, and of which it is not known whether they are committed
  Marks committed_;  // what is known of that
  Clock::time_point next_rest_{Clock::time_point::min()};
  std::map<int32_t, int64_t> last_offsets_;  // appended or committed
};

namespace {

constexpr std::array<const char*, 3> kTypes = {"response", "applied", "dead_letter"};
constexpr int kAttempts = 12;
constexpr std::chrono::milliseconds kFirstPause{10};
constexpr std::chrono::milliseconds kLongestPause{1'000};
constexpr std::chrono::seconds kRestLimit{5};     // outcomes that come meanwhile wait for it
constexpr std::chrono::seconds kAfterNoRest{30};  // brokers are away, say

Error NotOwner(std::string message) {
  return {Code::kNotOwner, std::move(message),
          "the next owner of the partitions goes on from the last commit"};
}

Error TimeIsOver(std::string_view what) {
  return {Code::kUnavailable, "cannot " + std::string(what) + ": the time for it is over",
          "see whether the brokers are up and can be reached"};
}

Clock::duration Until(Clock::time_point deadline) {
  return std::max<Clock::duration>(deadline - Clock::now(), {});
}

int FatalError(rd_kafka_s* handle) {
  std::array<char, 512> text{};
  return rd_kafka_fatal_error(handle, text.data(), text.size());
}

// The id of the member that has this process's place in the group; empty: none has.
Result<std::string> MemberInPlace(const KafkaClient::Shared& shared, int timeout_ms) {
  rd_kafka_t* const handle = shared.consumer.get();
  rd_kafka_AdminOptions_t* const admin =
      rd_kafka_AdminOptions_new(handle, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
  std::array<char, 512> text{};
  rd_kafka_AdminOptions_set_request_timeout(admin, timeout_ms, text.data(), text.size());
  const char* group_id = shared.options.group_id.c_str();
  const Queue queue(rd_kafka_queue_new(handle));
  rd_kafka_DescribeConsumerGroups(handle, &group_id, 1, admin, queue.get());
  rd_kafka_AdminOptions_destroy(admin);
  constexpr std::string_view kWhat = "ask for the group's members";
  const Result<Answer> event = Await(queue.get(), kWhat, timeout_ms);
  if (!event) return event.error();
  if (const int code = rd_kafka_event_error(event->get()); code != 0) return Explain(kWhat, code);
  size_t count = 0;
  const rd_kafka_ConsumerGroupDescription_t** const groups =
      rd_kafka_DescribeConsumerGroups_result_groups(
          rd_kafka_event_DescribeConsumerGroups_result(event->get()), &count);
  ENSURE(count == 1);
  if (const rd_kafka_error_t* error = rd_kafka_ConsumerGroupDescription_error(groups[0])) {
    return Explain(kWhat, rd_kafka_error_code(error));
  }
  for (size_t i = 0; i < rd_kafka_ConsumerGroupDescription_member_count(groups[0]); ++i) {
    const rd_kafka_MemberDescription_t* const member =
        rd_kafka_ConsumerGroupDescription_member(groups[0], i);
    const char* const instance = rd_kafka_MemberDescription_group_instance_id(member);
    if (instance == nullptr || instance != shared.options.instance_id) continue;
    return std::string(rd_kafka_MemberDescription_consumer_id(member));
  }
  return std::string();
}

// Whether another process has this one's place in the group. kUnavailable: the brokers did not say
// in time.
Result<bool> IsReplaced(const KafkaClient::Shared& shared, Clock::time_point deadline) {
  constexpr int kAskMs = 5'000;
  constexpr std::chrono::milliseconds kBetween{100};
  rd_kafka_t* const consumer = shared.consumer.get();
  while (true) {
    const auto member = MemberInPlace(shared, std::min(kAskMs, MillisecondsUntil(deadline)));
    const std::unique_ptr<char, decltype(&std::free)> own(
        Bounded("rd_kafka_memberid", kUntimed, [&] { return rd_kafka_memberid(consumer); }),
        &std::free);
    if (member && (member->empty() || (own && *member == own.get()))) return false;
    // Another member has the place: this consumer hears of it with its next heartbeat. Or the
    // member is this consumer itself, which is just coming back.
    if (Classify(FatalError(consumer), false, false, false) == Action::kFenced) return true;
    if (Clock::now() >= deadline) {
      return member ? TimeIsOver("find this process's place in the group") : member.error();
    }
    std::this_thread::sleep_for(kBetween);
  }
}

}  // namespace

KafkaSink::Writer::Writer(KafkaClient::Shared& shared) : shared_(shared), ear_(shared.options) {
  // With transactions the codes are not needed, since a transaction that lost a message does not
  // commit. But where nobody listens for deliveries, librdkafka's flush looks for them every 10 ms
  // only, and each commit would end that late.
  ear_.on_delivery = [this](const rd_kafka_message_t& message) {
    if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR) return;
    ++undelivered_;
    undelivered_code_ = message.err;
  };
  const Attempted failed = MakeProducer(Clock::now() + shared_.options.start_timeout);
  if (failed) throw StartError(failed->error.message + "; " + failed->error.remedy);
}

// A new producer in the place of the old one. With transactions, what the old one left unfinished
// is finished or aborted by then, and whoever else has the transactional id is fenced.
KafkaSink::Writer::Attempted KafkaSink::Writer::MakeProducer(Clock::time_point deadline) {
  const KafkaOptions& options = shared_.options;
  if (producer_) {
    Bounded("rd_kafka_purge", kUntimed, [&] {
      return rd_kafka_purge(producer_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    });
  }
  for (Topic& topic : topics_) topic.reset();
  producer_.reset();
  const Settings defaults = {
      {"compression.codec", "lz4"},
      {"linger.ms", "5"},         // a commit does not wait for it: it ends with a flush
      {"retry.backoff.ms", "5"},  // else each commit waits 100 ms for the one before it
      {"queue.buffering.max.messages", "1000000"},
  };
  const std::string bytes = std::to_string(options.message_bytes + kOverheadBytes);
  if (is_exactly_once()) {
    const std::string id = options.transactional_id.empty()
                               ? options.group_id + "-" + options.instance_id
                               : options.transactional_id;
    producer_ = MakeHandle(
        Kind::kProducer,
        Configure(options, ear_, defaults,
                  {{"transactional.id", id},
                   {"transaction.timeout.ms", std::to_string(options.transaction_timeout.count())},
                   {"message.max.bytes", bytes}}),
        ear_);
    const Attempted failed =
        Repeat("rd_kafka_init_transactions", "begin with transactional id " + id, deadline,
               [&](int ms) { return KafkaError(rd_kafka_init_transactions(producer_.get(), ms)); });
    if (failed) return failed;
  } else {
    producer_ =
        MakeHandle(Kind::kProducer,
                   Configure(options, ear_, defaults,
                             {{"enable.idempotence", "true"}, {"message.max.bytes", bytes}}),
                   ear_);
  }
  const std::array<const std::string*, 3> names = {&options.response_topic, &options.receipt_topic,
                                                   &options.dead_letter_topic};
  for (size_t i = 0; i < names.size(); ++i) {
    topics_[i].reset(rd_kafka_topic_new(producer_.get(), names[i]->c_str(), nullptr));
    ENSURE(topics_[i] != nullptr);
  }
  return std::nullopt;
}

void KafkaSink::Writer::Count(uint64_t KafkaStatistics::*counter) {
  const MutexLock lock(shared_.mutex);
  ++(shared_.statistics.*counter);
}

// Calls until it works, or fails in a way that calling again cannot cure.
template <class Call>
KafkaSink::Writer::Attempted KafkaSink::Writer::Repeat(const char* name, std::string_view what,
                                                       Clock::time_point deadline,
                                                       const Call& call) {
  while (true) {
    const int timeout_ms = std::max(1, MillisecondsUntil(deadline));
    const KafkaError error =
        Bounded(name, std::chrono::milliseconds(timeout_ms), [&] { return call(timeout_ms); });
    if (!error) return std::nullopt;
    Failure failure = Explain(what, error);
    if (failure.action != Action::kRetry) return failure;
    if (Clock::now() >= deadline) return Failure{Action::kRebuild, std::move(failure.error)};
    Count(&KafkaStatistics::retries);
    std::this_thread::sleep_for(kFirstPause);
  }
}

// ---- Lines --------------------------------------------------------------------------------------

Result<Nothing> KafkaSink::Writer::Append(const OutcomeLine& line) {
  const size_t size = line.bytes.size() + line.key.size();
  if (size > shared_.options.message_bytes) {
    return Error{Code::kTooLarge,
                 "outcome: " + std::to_string(size) + " bytes are over the limit of " +
                     std::to_string(shared_.options.message_bytes),
                 "raise kafka.message_bytes and the brokers' message.max.bytes"};
  }
  const auto last = last_offsets_.find(line.partition);
  if (last != last_offsets_.end() && line.offset <= last->second) {
    return Error{Code::kInternal,
                 "outcome of offset " + std::to_string(line.offset) + " after that of offset " +
                     std::to_string(last->second),
                 ""};
  }
  // Without these the commit would be a lie: it would succeed and send nothing.
  if (line.offset < 0 || ChainOf(line.bytes).empty()) {
    return Error{Code::kInternal, "outcome without an offset or a chain", ""};
  }
  last_offsets_[line.partition] = line.offset;
  lines_.push_back(line);
  return Nothing{};
}

void KafkaSink::Writer::Drop(int32_t partition) {
  std::erase_if(lines_, [&](const OutcomeLine& line) { return line.partition == partition; });
  last_offsets_.erase(partition);
  tried_.erase(partition);
  committed_.erase(partition);
}

// The progress that the lines stand for.
Marks KafkaSink::Writer::Progress() const {
  std::map<int32_t, const OutcomeLine*> last;
  for (const OutcomeLine& line : lines_) last[line.partition] = &line;
  Marks marks;
  for (const auto& [number, line] : last) {
    marks[number] = {{line->offset, std::string(ChainOf(line->bytes))},
                     shared_.PositionAfter(number, line->offset)};
  }
  return marks;
}

// ---- Commit -------------------------------------------------------------------------------------

Result<Nothing> KafkaSink::Writer::Commit() {
  const auto begun = Clock::now();
  const auto deadline = begun + shared_.options.commit_timeout;
  auto pause = kFirstPause;
  for (int attempt = 1; !lines_.empty(); ++attempt) {
    Attempted failed = Attempt(begun, deadline);
    if (!failed) continue;
    if (failed->action == Action::kFenced && !is_broken_ && MayBeTimedOut()) {
      is_broken_ = is_fenced_ = true;
      failed->action = Action::kRebuild;
      failed->error.code = Code::kUnavailable;
    }
    const bool is_final = failed->action == Action::kFenced ||
                          failed->action == Action::kNotOwner || failed->action == Action::kRefuse;
    if (is_final || attempt >= kAttempts || Clock::now() >= deadline) return failed->error;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
  return Nothing{};
}

// Sends all lines, after finding out what became of those that were sent before.
KafkaSink::Writer::Attempted KafkaSink::Writer::Attempt(Clock::time_point begun,
                                                        Clock::time_point deadline) {
  if (is_broken_) {
    if (Attempted failed = Rebuild(deadline)) return failed;
  }
  Bounded("rd_kafka_poll", kUntimed, [&] { return rd_kafka_poll(producer_.get(), 0); });
  if (!tried_.empty()) {
    if (Attempted failed = Resolve(deadline)) return failed;
    if (lines_.empty()) return std::nullopt;
  }
  tried_ = Progress();
  if (Attempted failed =
          is_exactly_once() ? Transact(tried_, deadline) : SendTwice(tried_, deadline)) {
    return failed;
  }
  ForgetCommitted();
  const MutexLock lock(shared_.mutex);
  shared_.statistics.commit_ms =
      std::chrono::duration<double, std::milli>(Clock::now() - begun).count();
  return std::nullopt;
}

// Whether the producer may be fenced because its transaction lasted too long (the brokers were
// away, say). The coordinator has ended the transaction then, which looks as if another process had
// taken the transactional id. Rebuild asks the group whether one has.
bool KafkaSink::Writer::MayBeTimedOut() const {
  return FatalError(producer_.get()) == RD_KAFKA_RESP_ERR__FENCED &&
         Clock::now() - shared_.options.transaction_timeout >= began_;
}

KafkaSink::Writer::Attempted KafkaSink::Writer::Rebuild(Clock::time_point deadline) {
  // A fenced consumer has a successor, and the successor has the transactional id now.
  const int code = FatalError(shared_.consumer.get());
  if (Classify(code, false, false, false) == Action::kFenced) {
    return Failure{Action::kFenced, Explain("go on", code)};
  }
  if (is_fenced_) {
    const Result<bool> is_replaced = IsReplaced(shared_, deadline);
    if (!is_replaced) return Failure{Action::kRetry, is_replaced.error()};
    if (*is_replaced) {
      return Failure{Action::kFenced, Explain("go on", RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)};
    }
    ear_.Log("brokers ended a transaction that lasted too long: its outcomes are sent again");
  }
  Count(&KafkaStatistics::rebuilds);
  try {
    Attempted failed = MakeProducer(deadline);
    if (!failed) is_broken_ = is_fenced_ = false;
    return failed;
  } catch (const StartError& error) {
    return Failure{Action::kRefuse, {Code::kUnavailable, error.what(), ""}};
  }
}

// Forgets the lines that were tried, since they are committed.
void KafkaSink::Writer::ForgetCommitted() {
  const MutexLock lock(shared_.mutex);
  ++shared_.statistics.commits;
  std::erase_if(lines_, [&](const OutcomeLine& line) REQUIRES(shared_.mutex) {
    const auto tried = tried_.find(line.partition);
    if (tried == tried_.end() || line.offset > tried->second.tail.offset) return false;
    ++shared_.statistics.committed_events;
    shared_.statistics.committed_bytes += line.bytes.size();
    return true;
  });
  for (auto& [number, mark] : tried_) committed_[number] = std::move(mark);
  tried_.clear();
}

void KafkaSink::Writer::Rest() {
  const auto now = Clock::now();
  if (!lines_.empty() || now < next_rest_) return;
  Marks further;
  for (const auto& [number, mark] : committed_) {
    const int64_t position = shared_.PositionAfter(number, mark.tail.offset);
    if (position > mark.position) further[number] = {mark.tail, position};
  }
  if (further.empty()) return;
  const auto deadline = now + std::min<Clock::duration>(kRestLimit, shared_.options.commit_timeout);
  Attempted failed = is_broken_ ? Rebuild(deadline) : std::nullopt;
  if (!failed) {
    failed = is_exactly_once() ? Transact(further, deadline) : CommitOffsets(further, deadline);
  }
  if (!failed) {
    for (auto& [number, mark] : further) committed_[number] = std::move(mark);
    return;
  }
  next_rest_ = Clock::now() + kAfterNoRest;
  if (failed->action != Action::kFenced) return;
  if (!is_broken_ && MayBeTimedOut()) {
    is_broken_ = is_fenced_ = true;
  } else {
    committed_.clear();  // another process has this place
  }
}

// Finds out by the group's offsets whether the lines that were tried are committed. All of them are
// or none is, since they went in one transaction. kNotOwner: another process has written the
// offsets.
KafkaSink::Writer::Attempted KafkaSink::Writer::Resolve(Clock::time_point deadline) {
  if (!is_exactly_once()) {
    tried_.clear();
    return std::nullopt;
  }
  std::vector<int32_t> numbers;
  for (const auto& [number, last] : tried_) numbers.push_back(number);
  auto committed = shared_.CommittedOffsets(numbers, deadline);
  if (!committed) {
    const bool is_over = committed.error().code == Code::kNotOwner;
    return Failure{is_over ? Action::kNotOwner : Action::kRetry, committed.error()};
  }
  std::map<int32_t, int64_t> first;
  for (const OutcomeLine& line : lines_) first.try_emplace(line.partition, line.offset);
  size_t done = 0;
  size_t open = 0;
  for (const auto& [number, last] : tried_) {
    const auto& [position, metadata] = (*committed)[number];
    const std::optional<Mark> mark = MarkOf(position, metadata);
    const int64_t offset = mark ? mark->tail.offset : position - 1;
    if (offset == last.tail.offset) ++done;
    if (offset < first.at(number)) ++open;
  }
  if (done == tried_.size()) {
    Count(&KafkaStatistics::found_committed);
    ForgetCommitted();
  } else if (open == tried_.size()) {
    tried_.clear();
  } else {
    return Failure{Action::kNotOwner,
                   NotOwner("the group's offsets were moved by another process")};
  }
  return std::nullopt;
}

// All lines and these marks, in one transaction.
KafkaSink::Writer::Attempted KafkaSink::Writer::Transact(const Marks& marks,
                                                         Clock::time_point deadline) {
  std::vector<int32_t> numbers;
  for (const auto& [number, mark] : marks) numbers.push_back(number);
  const GroupMetadata membership = shared_.MembershipOf(numbers);
  if (!membership) {
    return Failure{Action::kNotOwner, NotOwner("the partitions are not this process's now")};
  }
  FaultPoint("commit-before-begin");
  began_ = Clock::now();
  const KafkaError begun = Bounded("rd_kafka_begin_transaction", Until(deadline), [&] {
    return KafkaError(rd_kafka_begin_transaction(producer_.get()));
  });
  Attempted failed;
  if (begun) failed = Explain("begin a transaction", begun);
  if (!failed) failed = Produce(deadline);
  if (!failed) {
    FaultPoint("commit-produced");
    const PartitionList list = ListOf(shared_.options.input_topic, marks);
    failed = Repeat("rd_kafka_send_offsets_to_transaction", "commit the group's offsets", deadline,
                    [&](int ms) {
                      return KafkaError(rd_kafka_send_offsets_to_transaction(
                          producer_.get(), list.get(), membership.get(), ms));
                    });
  }
  if (!failed) {
    FaultPoint("commit-offsets-sent");
    failed = Repeat("rd_kafka_commit_transaction", "commit a transaction", deadline, [&](int ms) {
      return KafkaError(rd_kafka_commit_transaction(producer_.get(), ms));
    });
  }
  if (failed) return EndFailed(std::move(*failed), deadline);
  FaultPoint("commit-committed");
  return std::nullopt;
}

// Aborts the open transaction, so that it holds up no reader; a producer that cannot abort is
// marked as broken. Returns the failure, or a worse one that the abort brought to light.
KafkaSink::Writer::Attempted KafkaSink::Writer::EndFailed(Failure failure,
                                                          Clock::time_point deadline) {
  if (failure.action != Action::kRebuild) {
    const Attempted not_aborted =
        Repeat("rd_kafka_abort_transaction", "abort a transaction", deadline,
               [&](int ms) { return KafkaError(rd_kafka_abort_transaction(producer_.get(), ms)); });
    if (!not_aborted) {
      Count(&KafkaStatistics::aborts);
      return failure;
    }
    if (not_aborted->action == Action::kFenced) return not_aborted;
  }
  is_broken_ = true;
  return failure;
}

// Hands all lines to librdkafka, which copies them.
KafkaSink::Writer::Attempted KafkaSink::Writer::Produce(Clock::time_point deadline) {
  constexpr int kWaitMs = 10;
  const BoundedCall bounded("rd_kafka_produceva", Until(deadline) + kGrace);
  for (const OutcomeLine& line : lines_) {
    const auto kind = static_cast<size_t>(line.kind);
    const std::string offset = std::to_string(line.offset);
    const auto fill = [&](rd_kafka_vu_t(&values)[7]) {
      values[0].vtype = RD_KAFKA_VTYPE_RKT;
      values[0].u.rkt = topics_[kind].get();
      values[1].vtype = RD_KAFKA_VTYPE_PARTITION;
      values[1].u.i32 = line.partition;
      values[2].vtype = RD_KAFKA_VTYPE_KEY;
      values[2].u.mem = {const_cast<char*>(line.key.data()), line.key.size()};
      values[3].vtype = RD_KAFKA_VTYPE_VALUE;
      values[3].u.mem = {const_cast<char*>(line.bytes.data()), line.bytes.size()};
      values[4].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
      values[4].u.i = RD_KAFKA_MSG_F_COPY;
      values[5].vtype = RD_KAFKA_VTYPE_HEADER;
      values[5].u.header = {kOffsetHeader, offset.data(), static_cast<ssize_t>(offset.size())};
      values[6].vtype = RD_KAFKA_VTYPE_HEADER;
      values[6].u.header = {kTypeHeader, kTypes[kind], -1};
    };
    rd_kafka_vu_t values[7];
    fill(values);
    while (true) {
      const KafkaError error(rd_kafka_produceva(producer_.get(), values, 7));
      if (!error) break;
      if (rd_kafka_error_code(error.get()) != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        Failure failure = Explain("send outcomes", error);
        if (failure.action == Action::kRetry || failure.action == Action::kRebuild) {
          failure.action = is_exactly_once() ? Action::kAbort : Action::kRebuild;
        }
        return failure;
      }
      if (Clock::now() >= deadline) return Failure{Action::kRebuild, TimeIsOver("send outcomes")};
      rd_kafka_poll(producer_.get(), kWaitMs);
    }
  }
  return std::nullopt;
}

// Without transactions: first the lines, then the offsets.
KafkaSink::Writer::Attempted KafkaSink::Writer::SendTwice(const Marks& marks,
                                                          Clock::time_point deadline) {
  undelivered_ = 0;
  if (Attempted failed = Produce(deadline)) return failed;
  const int timeout_ms = MillisecondsUntil(deadline);
  const rd_kafka_resp_err_t code =
      Bounded("rd_kafka_flush", std::chrono::milliseconds(timeout_ms),
              [&] { return rd_kafka_flush(producer_.get(), timeout_ms); });
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    is_broken_ = true;
    return Failure{Action::kRebuild, Explain("send outcomes", code)};
  }
  if (undelivered_ > 0) {
    is_broken_ = true;
    return Failure{Classify(undelivered_code_, false, false, false),
                   Explain("send outcomes", undelivered_code_)};
  }
  return CommitOffsets(marks, deadline);
}

KafkaSink::Writer::Attempted KafkaSink::Writer::CommitOffsets(const Marks& marks,
                                                              Clock::time_point deadline) {
  const PartitionList list = ListOf(shared_.options.input_topic, marks);
  const rd_kafka_resp_err_t code = Bounded("rd_kafka_commit", Until(deadline), [&] {
    return rd_kafka_commit(shared_.consumer.get(), list.get(), 0);
  });
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return std::nullopt;
  return Failure{Classify(code, true, false, false), Explain("commit the group's offsets", code)};
}

// ---- Reading ------------------------------------------------------------------------------------

// A transaction of a process that died ends by its timeout, which brokers look at every 10 s.
Clock::time_point KafkaSink::Writer::CommittedDeadline() const {
  constexpr std::chrono::seconds kBrokersLook{20};
  return Clock::now() + shared_.options.transaction_timeout + shared_.options.start_timeout +
         kBrokersLook;
}

Result<std::optional<Tail>> KafkaSink::Writer::Last(int32_t partition) {
  auto committed = shared_.CommittedOffsets({partition}, CommittedDeadline());
  if (!committed) return committed.error();
  const auto& [offset, metadata] = (*committed)[partition];
  if (offset < 0) return std::optional<Tail>();
  const std::optional<Mark> mark = MarkOf(offset, metadata);
  if (!mark) {
    return Error{Code::kUnreadableFile,
                 "group " + shared_.options.group_id + " stands at offset " +
                     std::to_string(offset) + " of partition " + std::to_string(partition) +
                     ", which nudge did not commit",
                 "choose another group_id, or delete the group's offsets and begin again with an "
                 "empty state and new output topics"};
  }
  const bool has_lines = std::any_of(lines_.begin(), lines_.end(), [&](const OutcomeLine& line) {
    return line.partition == partition;
  });
  if (!has_lines) {
    last_offsets_[partition] = mark->tail.offset;
    committed_[partition] = *mark;
  }
  return std::optional<Tail>(mark->tail);
}

Result<Nothing> KafkaSink::Writer::ReadBack(int32_t partition, int64_t offset, const Visit& visit) {
  Result<std::optional<Tail>> tail = Last(partition);
  if (!tail) return tail.error();
  if (!*tail || (*tail)->offset < offset) return Nothing{};
  return ReadOutcomes(shared_, partition, offset, **tail, CommittedDeadline(), visit);
}

// ---- KafkaSink ----------------------------------------------------------------------------------

KafkaSink::KafkaSink(KafkaClient& client) : writer_(std::make_unique<Writer>(client.shared())) {}

KafkaSink::~KafkaSink() = default;

Result<Nothing> KafkaSink::Append(const OutcomeLine& line) {
  return writer_->Append(line);
}

Result<Nothing> KafkaSink::Commit() {
  return writer_->Commit();
}

void KafkaSink::Rest() {
  writer_->Rest();
}

void KafkaSink::Drop(int32_t partition) {
  writer_->Drop(partition);
}

Result<std::optional<Tail>> KafkaSink::Last(int32_t partition) {
  return writer_->Last(partition);
}

Result<Nothing> KafkaSink::ReadBack(int32_t partition, int64_t offset, const Visit& visit) {
  return writer_->ReadBack(partition, offset, visit);
}

}  // namespace nudge
