#include "connectors/http/pdf_text.h"

#include "connectors/json_writer.h"

namespace nudge {
namespace {

constexpr std::string_view kWhite = " \t\n";

// A form feed ends each page.
std::string WithoutPages(std::string_view text) {
  std::string pages;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\f'), text.size());
    std::string_view page = text.substr(0, end);
    page = page.substr(0, page.find_last_not_of(kWhite) + 1);
    page.remove_prefix(std::min(page.find_first_not_of(kWhite), page.size()));
    if (!page.empty()) pages.append(pages.empty() ? "" : "\n\n").append(page);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pages;
}

}  // namespace

PdfText::PdfText(const HttpOptions& options) {
  program_.words = EntriesOf(options.pdf_converter, ' ');
  program_.timeout = options.pdf_timeout;
  program_.memory_bytes_max = options.pdf_memory_bytes_max;
  program_.output_bytes_max = options.body_bytes_max;
  if (!is_on()) return;
  if (const auto can = CanRunConfined(program_); !can.ok()) {
    throw StartError("http.pdf_converter: " + can.error().message);
  }
}

Result<std::string> PdfText::Of(std::string_view pdf) {
  if (busy_.exchange(true)) {
    return Error{Code::kBusy, "another PDF is read at the moment", "send it again in a while"};
  }
  auto text = RunConfined(program_, pdf);
  busy_ = false;
  if (!text.ok()) return text;
  if (!IsUtf8(*text)) {
    return Error{Code::kInvalidUtf8, "the converter's text is not UTF-8",
                 "let http.pdf_converter give UTF-8"};
  }
  return WithoutPages(*text);
}

}  // namespace nudge
