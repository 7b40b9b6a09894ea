// A PDF as text: bytes -> [PdfText::Of] -> text, by a converter that stands outside.
//
// The converter is a program that reads the PDF at its standard input and writes UTF-8 to its
// standard output ("/usr/bin/pdftotext -q -enc UTF-8 - -"); it runs without rights
// (confined_program.h), one at a time, since each may take its whole memory and time. nudge links
// nothing that reads PDFs.
//
// Any thread that may wait.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "connectors/http/confined_program.h"
#include "connectors/http/http_options.h"
#include "stages/result.h"

namespace nudge {

class PdfText {
 public:
  // Throws StartError where http.pdf_converter cannot be run so.
  explicit PdfText(const HttpOptions& options);

  // Whether there is a converter.
  bool is_on() const { return !program_.words.empty(); }

  // Pages are apart by an empty line; may be empty, as with pictures of pages. Errors: kBusy
  // (another is read), else as RunConfined; kInvalidUtf8 (what the converter gives is not).
  Result<std::string> Of(std::string_view pdf);

 private:
  ConfinedProgram program_;
  std::atomic<bool> busy_ = false;
};

}  // namespace nudge
