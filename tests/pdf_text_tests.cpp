// labels: unit
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "connectors/http/confined_program.h"
#include "connectors/http/pdf_text.h"

namespace nudge {
namespace {

constexpr char kConverter[] = "/usr/bin/pdftotext -q -enc UTF-8 - -";

ConfinedProgram Shell(const std::string& script) {
  ConfinedProgram program;
  program.words = {"/bin/sh", "-c", script};
  program.timeout = std::chrono::milliseconds(5000);
  return program;
}

Code CodeOf(const Result<std::string>& result) {
  BOOST_REQUIRE(!result.ok());
  return result.error().code;
}

// Whether the script comes to its end.
bool Can(const std::string& script) {
  const auto result = RunConfined(Shell("set -e; " + script + "; echo did"), "");
  return result.ok() && *result == "did\n";
}

std::string Deflated(std::string_view text, size_t times = 1) {
  z_stream stream = {};
  BOOST_REQUIRE(deflateInit(&stream, 1) == Z_OK);
  std::string out;
  char piece[1 << 16];
  for (size_t i = 0; i < times; ++i) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    int done = Z_OK;
    do {
      stream.next_out = reinterpret_cast<Bytef*>(piece);
      stream.avail_out = sizeof(piece);
      done = deflate(&stream, i + 1 == times ? Z_FINISH : Z_NO_FLUSH);
      out.append(piece, sizeof(piece) - stream.avail_out);
    } while (stream.avail_out == 0);
    BOOST_REQUIRE(done != Z_STREAM_ERROR);
  }
  deflateEnd(&stream);
  return out;
}

// A PDF of pages with these streams of commands.
std::string PdfOf(const std::vector<std::string>& pages) {
  std::string pdf = "%PDF-1.4\n";
  std::vector<size_t> places;
  const auto object = [&](const std::string& body) {
    places.push_back(pdf.size());
    pdf += std::to_string(places.size()) + " 0 obj\n" + body + "\nendobj\n";
  };
  std::string kids;
  for (size_t i = 0; i < pages.size(); ++i) kids += std::to_string(4 + 2 * i) + " 0 R ";
  object("<</Type/Catalog/Pages 2 0 R>>");
  object("<</Type/Pages/Count " + std::to_string(pages.size()) + "/Kids[" + kids + "]>>");
  object("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>");
  for (const std::string& stream : pages) {
    object(
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>/Contents " +
        std::to_string(places.size() + 2) + " 0 R>>");
    object("<</Length " + std::to_string(stream.size()) + "/Filter/FlateDecode>>stream\n" + stream +
           "\nendstream");
  }
  const size_t table = pdf.size();
  pdf += "xref\n0 " + std::to_string(places.size() + 1) + "\n0000000000 65535 f \n";
  for (const size_t place : places) {
    const std::string digits = std::to_string(place);
    pdf += std::string(10 - digits.size(), '0') + digits + " 00000 n \n";
  }
  return pdf + "trailer<</Size " + std::to_string(places.size() + 1) +
         "/Root 1 0 R>>\nstartxref\n" + std::to_string(table) + "\n%%EOF\n";
}

std::string Says(const std::string& text) {
  return Deflated("BT /F 12 Tf 72 700 Td (" + text + ") Tj ET");
}

HttpOptions WithConverter() {
  HttpOptions options;
  options.pdf_converter = kConverter;
  return options;
}

BOOST_AUTO_TEST_CASE(a_program_has_its_input_and_its_output) {
  const auto result =
      RunConfined(Shell("while read line; do echo \"<$line>\"; done"), "one\ntwo\n");
  BOOST_REQUIRE_MESSAGE(result.ok(), (result.ok() ? "" : result.error().message));
  BOOST_TEST(*result == "<one>\n<two>\n");
}

BOOST_AUTO_TEST_CASE(it_reads_of_the_system_alone_and_writes_nothing) {
  const std::string place = std::filesystem::temp_directory_path() / "nudge_confined_test";
  BOOST_TEST(Can("true"));
  BOOST_TEST(Can("read line < /usr/bin/ldd"));
  BOOST_TEST(!Can("read line < /etc/passwd"));
  BOOST_TEST(!Can("read line < /proc/1/status"));
  BOOST_TEST(!Can("read line < " + std::filesystem::absolute("CMakeLists.txt").string()));
  BOOST_TEST(!Can("echo gone > " + place));
  BOOST_TEST(!Can("echo gone > /dev/shm/nudge_confined_test"));
  BOOST_TEST(!std::filesystem::exists(place));
}

BOOST_AUTO_TEST_CASE(it_makes_no_process_signals_none_and_has_no_network) {
  BOOST_TEST(!Can("/bin/true"));  // in a process of its own
  BOOST_TEST(!Can("kill -0 " + std::to_string(getpid())));
  const int listening = socket(AF_INET, SOCK_STREAM, 0);
  BOOST_TEST(listening >= 0);
  close(listening);
  const auto result = RunConfined(
      {.words = {"/usr/bin/python3", "-I", "-S", "-c",
                 "import _socket\ntry: _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0)\n"
                 "except PermissionError: print('refused')"}},
      "");
  BOOST_REQUIRE_MESSAGE(result.ok(), (result.ok() ? "" : result.error().message));
  BOOST_TEST(*result == "refused\n");
}

BOOST_AUTO_TEST_CASE(it_knows_nothing_of_the_process_that_it_comes_from) {
  const int secret = open("CMakeLists.txt", O_RDONLY);  // without O_CLOEXEC
  BOOST_REQUIRE(secret > 2);
  BOOST_TEST(!Can("read line <&" + std::to_string(secret)));
  close(secret);
  setenv("NUDGE_CONFINED_TEST", "secret", 1);
  const auto result = RunConfined(Shell("echo \"$NUDGE_CONFINED_TEST$HOME\"; pwd"), "");
  BOOST_REQUIRE(result.ok());
  BOOST_TEST(*result == "\n/\n");
}

BOOST_AUTO_TEST_CASE(time_output_and_memory_are_limited) {
  ConfinedProgram endless = Shell("while :; do :; done");
  endless.timeout = std::chrono::milliseconds(300);
  BOOST_TEST((CodeOf(RunConfined(endless, "")) == Code::kTooLarge));
  ConfinedProgram silent = Shell("exec >&-; while :; do :; done");  // gives no more, and goes on
  BOOST_TEST((CodeOf(RunConfined(silent, "")) == Code::kTooLarge));
  ConfinedProgram loud = Shell("while :; do echo loud; done");
  loud.output_bytes_max = 100'000;
  BOOST_TEST((CodeOf(RunConfined(loud, "")) == Code::kTooLarge));
  ConfinedProgram large;
  large.words = {"/usr/bin/python3", "-I", "-S", "-c", "x = bytearray(1 << 30)"};
  BOOST_TEST((CodeOf(RunConfined(large, "")) == Code::kUnreadableFile));
  large.memory_bytes_max = uint64_t{3} << 30;
  BOOST_TEST(RunConfined(large, "").ok());
}

BOOST_AUTO_TEST_CASE(a_program_that_is_not_there_or_ends_otherwise_than_well_is_an_error) {
  ConfinedProgram program;
  program.words = {"/usr/bin/nudge-no-such-program"};
  BOOST_TEST(!CanRunConfined(program).ok());
  BOOST_TEST((CodeOf(RunConfined(program, "")) == Code::kUnavailable));
  program.words = {"pdftotext"};  // which one?
  BOOST_TEST(!CanRunConfined(program).ok());
  BOOST_TEST((CodeOf(RunConfined(Shell("echo half; exit 3"), "")) == Code::kUnreadableFile));
}

BOOST_AUTO_TEST_CASE(a_pdf_is_its_pages_text) {
  PdfText pdf(WithConverter());
  const auto text = pdf.Of(PdfOf({Says("The heron weighs 13.6 kilograms."), Says("Page two.")}));
  BOOST_REQUIRE_MESSAGE(text.ok(), (text.ok() ? "" : text.error().message));
  BOOST_TEST(*text == "The heron weighs 13.6 kilograms.\n\nPage two.");
  const auto empty = pdf.Of(PdfOf({Deflated("0 0 10 10 re f")}));
  BOOST_REQUIRE(empty.ok());
  BOOST_TEST(empty->empty());
}

BOOST_AUTO_TEST_CASE(what_is_no_pdf_or_half_of_one_is_an_error) {
  PdfText pdf(WithConverter());
  BOOST_TEST((CodeOf(pdf.Of("no PDF")) == Code::kUnreadableFile));
  BOOST_TEST((CodeOf(pdf.Of("")) == Code::kUnreadableFile));
  const std::string whole = PdfOf({Says("One."), Says("Two.")});
  BOOST_TEST((CodeOf(pdf.Of(whole.substr(0, 60))) == Code::kUnreadableFile));
}

BOOST_AUTO_TEST_CASE(a_pdf_that_unpacks_to_much_more_ends_at_a_limit) {
  HttpOptions options = WithConverter();
  options.pdf_timeout = std::chrono::milliseconds(3000);
  options.pdf_memory_bytes_max = uint64_t{128} << 20;
  PdfText pdf(options);
  std::string line;
  for (int i = 0; i < 4000; ++i) line += "BT /F 9 Tf 1 1 Td (many words in a small file) Tj ET\n";
  const std::string bomb = PdfOf({Deflated(line, 2000)});  // 400 MB of commands
  BOOST_TEST(bomb.size() < 8'000'000u);
  const auto begin = std::chrono::steady_clock::now();
  const auto text = pdf.Of(bomb);
  BOOST_TEST(!text.ok());
  BOOST_TEST((std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)));
}

BOOST_AUTO_TEST_CASE(one_pdf_is_read_at_a_time) {
  HttpOptions options = WithConverter();
  options.pdf_timeout = std::chrono::milliseconds(1000);
  PdfText pdf(options);
  std::string line;
  for (int i = 0; i < 4000; ++i) line += "BT /F 9 Tf 1 1 Td (many words in a small file) Tj ET\n";
  const std::string slow = PdfOf({Deflated(line, 200)});
  std::thread first([&] { (void)pdf.Of(slow); });
  bool was_busy = false;
  for (int i = 0; i < 200 && !was_busy; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const auto second = pdf.Of("no PDF");
    was_busy = !second.ok() && second.error().code == Code::kBusy;
  }
  first.join();
  BOOST_TEST(was_busy);
}

BOOST_AUTO_TEST_CASE(a_converter_that_cannot_be_run_is_refused_at_the_start) {
  HttpOptions options;
  BOOST_TEST(!PdfText(options).is_on());
  options.pdf_converter = "/usr/bin/nudge-no-such-program -";
  BOOST_CHECK_THROW(PdfText{options}, StartError);
}

}  // namespace
}  // namespace nudge
