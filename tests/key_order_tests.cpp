// labels: unit
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <vector>

#include "pipeline/key_order.h"
#include "stages/hash.h"

using namespace nudge;

namespace {

struct Ticket {
  Sequence at;
  Sequence sequence() const { return at; }
};

}  // namespace

BOOST_AUTO_TEST_CASE(any_order_in_gives_log_order_out_per_partition) {
  std::vector<Ticket> tickets;
  for (uint64_t ordinal = 0; ordinal < 500; ++ordinal) {
    for (const int32_t partition : {0, 1, 7}) {
      tickets.push_back({Sequence::Of(partition, ordinal + 10)});
    }
  }
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (size_t i = tickets.size() - 1; i > 0; --i) {
      std::swap(tickets[i], tickets[RandomAt(seed, i) % (i + 1)]);
    }
    KeyedOrder<Ticket> order;
    for (const int32_t partition : {0, 1, 7}) order.Start(partition, 10);
    std::map<int32_t, uint64_t> next;
    for (const Ticket& ticket : tickets) {
      order.Put(ticket, [&](const Ticket& out) {
        BOOST_TEST(out.at.ordinal() == 10 + next[out.at.partition()]++);
      });
    }
    for (const int32_t partition : {0, 1, 7}) BOOST_TEST(next[partition] == 500u);
  }
}

BOOST_AUTO_TEST_CASE(a_partition_that_waits_does_not_hold_another) {
  KeyedOrder<Ticket> order;
  order.Start(0, 0);
  order.Start(1, 0);
  std::vector<uint64_t> out;
  const auto emit = [&](const Ticket& ticket) { out.push_back(ticket.at.value); };
  order.Put({Sequence::Of(0, 1)}, emit);
  order.Put({Sequence::Of(1, 0)}, emit);
  BOOST_TEST(out == std::vector<uint64_t>{Sequence::Of(1, 0).value});
}

BOOST_AUTO_TEST_CASE(a_dropped_partition_starts_anew) {
  KeyedOrder<Ticket> order;
  order.Start(3, 0);
  std::vector<uint64_t> out;
  const auto emit = [&](const Ticket& ticket) { out.push_back(ticket.at.ordinal()); };
  order.Put({Sequence::Of(3, 5)}, emit);
  order.Drop(3);
  order.Start(3, 5);
  order.Put({Sequence::Of(3, 5)}, emit);
  BOOST_TEST(out == std::vector<uint64_t>{5});
}

BOOST_AUTO_TEST_CASE(a_sequence_holds_partition_and_ordinal) {
  const Sequence at = Sequence::Of(1023, (uint64_t{1} << 44) - 1);
  BOOST_TEST(at.partition() == 1023);
  BOOST_TEST(at.ordinal() == (uint64_t{1} << 44) - 1);
}
