// labels: unit
// Shares of steps, dealt over long streams as a learner deals them.
#include <boost/test/unit_test.hpp>

#include <functional>
#include <utility>
#include <vector>

#include "stages/hash.h"
#include "stages/model/learn/influence.h"

using namespace nudge;

namespace {

constexpr double kLessons = 8;  // the default

// Lessons and what each voice has had of their steps, with one earlier lesson a step.
class Stream {
 public:
  void Teach(const Voice& voice) {
    present_.insert(voice);
    const double own = influence.ShareOf(voice, present_, 0.5);
    std::map<Voice, double> shares = {{voice, own}};
    shares[influence.FurthestShort(present_, shares, present_)] += 1 - own;
    influence.Book(shares, present_.size(), kLessons);
    for (const auto& [one, share] : shares) had[one] += share;
    ++steps;
    equal_parts += 1 / static_cast<double>(present_.size());
    ++equal_steps;
  }
  // Of one voice among those that were present, since the last call.
  double TakeEqualPart() { return std::exchange(equal_parts, 0) / std::exchange(equal_steps, 0); }
  // Of all since the last call.
  double TakeShareOf(const std::function<bool(const Voice&)>& whose) {
    double share = 0;
    for (const auto& [voice, part] : had) share += whose(voice) ? part : 0;
    share /= steps;
    had.clear();
    steps = 0;
    return share;
  }

  Influence influence;
  std::map<Voice, double> had;
  double steps = 0;
  double equal_parts = 0;
  double equal_steps = 0;

 private:
  std::set<Voice> present_;
};

Voice Of(uint64_t person, uint64_t source = 1) {
  return {source, person};
}
bool IsLoud(const Voice& voice) {
  return voice.person == 0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(one_voice_alone_has_all_of_each_step) {
  Stream stream;
  for (int i = 0; i < 100; ++i) {
    BOOST_TEST(stream.influence.ShareOf(Of(1), {Of(1)}, 0.5) == 0.5);
    stream.Teach(Of(1));
  }
  BOOST_TEST(stream.TakeShareOf([](const Voice&) { return true; }) == 1);
}

BOOST_AUTO_TEST_CASE(who_teaches_more_often_has_no_more_of_the_steps) {
  for (const double part : {0.2, 0.5, 0.9, 0.99}) {
    Stream stream;
    for (uint64_t i = 0; i < 7; ++i) stream.Teach(Of(i));
    stream.TakeShareOf(IsLoud);
    for (uint64_t i = 0; i < 2'000; ++i) {
      stream.Teach(UniformAt(1, i) < part ? Of(0) : Of(1 + RandomAt(2, i) % 6));
    }
    BOOST_TEST(stream.TakeShareOf(IsLoud) < 1.0 / 7 + 0.02, part);
  }
}

BOOST_AUTO_TEST_CASE(a_newcomer_is_heard_at_once_however_many_were_there_before) {
  for (const uint64_t people : {2, 10, 100, 500}) {
    Stream stream;
    std::set<Voice> present;
    for (uint64_t i = 0; i < people; ++i) {
      stream.Teach(Of(i));
      present.insert(Of(i));
    }
    present.insert(Of(people));
    BOOST_TEST(stream.influence.ShareOf(Of(people), present, 0.5) > 0.45, people);
  }
}

BOOST_AUTO_TEST_CASE(many_names_of_one_source_have_the_say_of_one_source) {
  Stream stream;
  for (uint64_t i = 0; i < 3'000; ++i) {
    const bool is_one_of_many = UniformAt(1, i) < 0.9;
    stream.Teach(is_one_of_many ? Of(RandomAt(2, i) % 50, 0) : Of(100, 1 + RandomAt(3, i) % 6));
  }
  BOOST_TEST(stream.TakeShareOf([](const Voice& voice) { return voice.source == 0; }) <
             1.0 / 7 + 0.03);
}

BOOST_AUTO_TEST_CASE(who_was_alone_first_lets_others_catch_up) {
  Stream stream;
  for (int i = 0; i < 32; ++i) stream.Teach(Of(0));
  stream.TakeShareOf(IsLoud);
  stream.TakeEqualPart();
  for (uint64_t i = 0; i < 60; ++i) {
    stream.Teach(UniformAt(1, i) < 0.9 ? Of(0) : Of(1 + RandomAt(2, i) % 6));
  }
  BOOST_TEST(stream.TakeShareOf(IsLoud) < stream.TakeEqualPart());
  for (uint64_t i = 0; i < 2'000; ++i) {  // and is heard as much as they are in the end
    stream.Teach(UniformAt(3, i) < 0.9 ? Of(0) : Of(1 + RandomAt(4, i) % 6));
  }
  BOOST_TEST(stream.TakeShareOf(IsLoud) > 1.0 / 7 - 0.03);
}

BOOST_AUTO_TEST_CASE(what_is_saved_goes_on_as_if_it_had_not_been) {
  Stream stream;
  for (uint64_t i = 0; i < 40; ++i) stream.Teach(Of(RandomAt(1, i) % 5, RandomAt(2, i) % 2));
  ByteWriter out;
  stream.influence.Save(out);
  const std::string bytes = out.Take();
  Stream other = stream;
  ByteReader in(bytes);
  other.influence.Load(in);
  BOOST_TEST(in.complete());
  for (uint64_t i = 0; i < 40; ++i) {
    const Voice voice = Of(RandomAt(3, i) % 6, RandomAt(4, i) % 3);
    stream.Teach(voice);
    other.Teach(voice);
  }
  BOOST_TEST((stream.had == other.had));
}
