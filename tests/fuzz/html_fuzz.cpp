// libFuzzer harness for TextOfHtml: any text is a page, whose text is UTF-8 without what ends a
// string, or a message that says which bound it goes over. scripts/fuzz runs it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "connectors/http/html_text.h"
#include "connectors/json_writer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!nudge::IsUtf8(bytes)) return 0;
  const nudge::Result<nudge::HtmlText> page = nudge::TextOfHtml(bytes);
  if (!page.ok()) {
    ENSURE(page.error().code == nudge::Code::kTooLarge);
    return 0;
  }
  ENSURE(nudge::IsUtf8(page->title) && nudge::IsUtf8(page->text));
  ENSURE(page->title.find('\n') == std::string::npos);
  return 0;
}
