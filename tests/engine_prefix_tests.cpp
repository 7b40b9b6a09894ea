// labels: unit
// The cache of beginnings: what it finds, whom it finds it for, what goes first, and that nobody
// can tell from the bytes.
#include <boost/test/unit_test.hpp>

#include <vector>

#include "stages/model/engine/prefix_cache.h"
#include "tests/engine_world.h"

using namespace nudge;
using namespace nudge::testing;

namespace {

constexpr size_t kPage = kPageTokens;
const PrefixOwner kAda{"ada", "v1"};

// A pool of a small model, and texts that were read into it without a model.
struct Reader {
  explicit Reader(size_t pool_pages, size_t cache_pages)
      : pool(shape, pool_pages * KeyPages::PageBytes(shape)),
        cache(pool, cache_pages * KeyPages::PageBytes(shape)) {}

  static LlamaShape MakeShape() {
    LlamaShape shape;
    shape.layers = 1;
    shape.kv_heads = 1;
    shape.head_dim = 4;
    return shape;
  }

  KeySequence Read(size_t tokens) {
    KeySequence sequence(pool);
    BOOST_REQUIRE(sequence.Reserve(tokens).ok());
    sequence.Advance(tokens);
    return sequence;
  }
  // Reads and keeps a text; its pages.
  std::vector<PageId> Keep(const PrefixOwner& owner, const std::vector<int32_t>& tokens) {
    const KeySequence sequence = Read(tokens.size());
    cache.Keep(owner, tokens, sequence);
    return {sequence.pages().begin(), sequence.pages().end()};
  }

  LlamaShape shape = MakeShape();
  KeyPages pool;
  PrefixCache cache;
};

// `count` tokens, which begin to differ from other seeds' at token `common`.
std::vector<int32_t> Text(size_t count, int32_t seed, size_t common = 0) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(i) + (i < common ? 0 : 1000 * seed));
  }
  return tokens;
}

std::vector<PageId> First(const std::vector<PageId>& pages, size_t count) {
  return {pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_longest_beginning_of_whole_pages_is_found) {
  Reader reader(100, 50);
  const auto pages = reader.Keep(kAda, Text(3 * kPage + 5, 1));
  BOOST_TEST(reader.cache.pages() == 3U);
  BOOST_TEST(reader.pool.held() == 3U);
  BOOST_TEST(reader.cache.Find(kAda, Text(3 * kPage + 5, 1)) == First(pages, 3));
  BOOST_TEST(reader.cache.Find(kAda, Text(9 * kPage, 1)) == First(pages, 3));
  BOOST_TEST(reader.cache.Find(kAda, Text(2 * kPage + 1, 1)) == First(pages, 2));
  BOOST_TEST(reader.cache.Find(kAda, Text(9 * kPage, 2, 0)).empty());
  BOOST_TEST(reader.cache.Find(kAda, {}).empty());
  auto other = Text(3 * kPage, 1);
  other[2 * kPage - 1] += 1;
  BOOST_TEST(reader.cache.Find(kAda, other) == First(pages, 1));
}

BOOST_AUTO_TEST_CASE(a_last_token_is_left_to_read) {
  Reader reader(100, 50);
  const auto pages = reader.Keep(kAda, Text(2 * kPage, 1));
  BOOST_TEST(reader.cache.Find(kAda, Text(2 * kPage, 1)) == First(pages, 1));
  BOOST_TEST(reader.cache.Find(kAda, Text(kPage, 1)).empty());
}

BOOST_AUTO_TEST_CASE(other_tenants_and_other_versions_find_nothing) {
  Reader reader(100, 50);
  const auto text = Text(2 * kPage, 1);
  reader.Keep(kAda, text);
  for (const PrefixOwner& owner : {PrefixOwner{"ada", "v2"}, PrefixOwner{"ada", ""},
                                   PrefixOwner{"ad", "av1"}, PrefixOwner{"bob", "v1"}}) {
    BOOST_TEST(reader.cache.Find(owner, text).empty());
  }
}

BOOST_AUTO_TEST_CASE(texts_that_begin_alike_share_pages) {
  Reader reader(100, 50);
  const auto first = reader.Keep(kAda, Text(3 * kPage, 1, kPage));
  const auto second = reader.Keep(kAda, Text(3 * kPage, 2, kPage));
  BOOST_TEST(reader.cache.pages() == 5U);
  BOOST_TEST(reader.pool.held() == 5U);
  const auto found = reader.cache.Find(kAda, Text(4 * kPage, 2, kPage));
  BOOST_TEST(found == (std::vector<PageId>{first[0], second[1], second[2]}));
}

BOOST_AUTO_TEST_CASE(what_was_used_the_longest_time_ago_goes_first_and_ends_before_beginnings) {
  Reader reader(100, 4);
  const auto one = Text(2 * kPage, 1);
  const auto two = Text(2 * kPage, 2);
  reader.Keep(kAda, one);
  reader.Keep(kAda, two);
  const auto longer = [](std::vector<int32_t> text) {
    text.push_back(7);
    return text;
  };
  BOOST_TEST(reader.cache.Find(kAda, longer(one)).size() == 2U);
  reader.Keep(kAda, Text(kPage, 3));
  BOOST_TEST(reader.cache.pages() == 4U);
  BOOST_TEST(reader.cache.Find(kAda, longer(one)).size() == 2U);
  BOOST_TEST(reader.cache.Find(kAda, longer(two)).size() == 1U);
  for (size_t left = 4; left > 0; --left) {
    BOOST_TEST(reader.cache.pages() == left);
    BOOST_TEST(reader.cache.EvictOne());
  }
  BOOST_TEST(!reader.cache.EvictOne());
  BOOST_TEST(reader.pool.held() == 0U);
  BOOST_TEST(reader.cache.Find(kAda, longer(one)).empty());
}

BOOST_AUTO_TEST_CASE(a_text_longer_than_the_bound_keeps_its_beginning) {
  Reader reader(100, 3);
  reader.Keep({"bob", "v1"}, Text(3 * kPage, 9));
  const auto pages = reader.Keep(kAda, Text(8 * kPage, 1));
  BOOST_TEST(reader.cache.pages() == 3U);
  BOOST_TEST(reader.cache.Find(kAda, Text(8 * kPage, 1)) == First(pages, 3));
  BOOST_TEST(reader.cache.Find({"bob", "v1"}, Text(4 * kPage, 9)).empty());
  // All that is kept gives way to another text of the same owner.
  const auto others = reader.Keep(kAda, Text(8 * kPage, 2));
  BOOST_TEST(reader.cache.Find(kAda, Text(8 * kPage, 2)) == First(others, 3));
  Reader none(100, 0);
  none.Keep(kAda, Text(8 * kPage, 1));
  BOOST_TEST(none.cache.pages() == 0U);
  BOOST_TEST(none.pool.held() == 0U);
}

BOOST_AUTO_TEST_CASE(a_page_that_goes_stays_with_the_text_that_reads_it) {
  Reader reader(4, 4);
  const auto pages = reader.Keep(kAda, Text(2 * kPage, 1));
  KeySequence sequence(reader.pool);
  sequence.Share(reader.cache.Find(kAda, Text(2 * kPage + 1, 1)));
  while (reader.cache.EvictOne()) {
  }
  BOOST_TEST(reader.pool.held() == 2U);
  BOOST_REQUIRE(sequence.Reserve(2 * kPage).ok());
  BOOST_TEST(!KeySequence(reader.pool).Reserve(1).ok());
  sequence.Clear();
  BOOST_TEST(reader.pool.held() == 0U);
}

BOOST_AUTO_TEST_CASE(a_tenant_that_is_forgotten_is_forgotten_with_all_its_versions) {
  Reader reader(100, 50);
  const auto text = Text(2 * kPage + 1, 1);
  for (const PrefixOwner& owner : {PrefixOwner{"ada", ""}, kAda, PrefixOwner{"ada", "v2"},
                                   PrefixOwner{"adam", ""}, PrefixOwner{"a", "da"}}) {
    reader.Keep(owner, text);
  }
  reader.cache.Forget("ada");
  BOOST_TEST(reader.cache.pages() == 4U);
  BOOST_TEST(reader.pool.held() == 4U);
  BOOST_TEST(reader.cache.Find(kAda, text).empty());
  BOOST_TEST(reader.cache.Find({"adam", ""}, text).size() == 2U);
  BOOST_TEST(reader.cache.Find({"a", "da"}, text).size() == 2U);
  reader.cache.Forget("nobody");
  BOOST_TEST(reader.cache.pages() == 4U);
}

// A chat that grows, read from the cache at each turn: the bytes of reading all of it.
BOOST_AUTO_TEST_CASE(what_is_cached_changes_no_bit) {
  EngineWorld world(ModelOf("qwen3"));
  const auto adapter = world.Adapter(4, 1);
  PrefixCache cache(*world.pool, kPoolBytes / 4);
  const auto chat = RandomTokens(250, world.vocabulary(), 2);
  const auto expected = world.Logits(chat, adapter.get(), {125});
  size_t read = 0;
  for (const size_t turn : {40u, 100u, 101u, 250u}) {
    const auto tokens = std::span(chat).first(turn);
    KeySequence sequence(*world.pool);
    sequence.Share(cache.Find(kAda, tokens));
    const auto rest = tokens.subspan(sequence.length());
    read += rest.size();
    std::vector<float> logits(rest.size() * world.vocabulary());
    const EngineRows rows{&sequence, rest, adapter.get(), WantedLogits::kAll};
    BOOST_REQUIRE(world.pass->Run({&rows, 1}, ThreadsFor(2), logits).ok());
    BOOST_TEST(
        SameBits(logits, std::span(expected).first(turn * world.vocabulary()).last(logits.size())));
    cache.Keep(kAda, tokens, sequence);
  }
  BOOST_TEST(read == 40 + (100 - 32) + (101 - 96) + (250 - 96));
}
