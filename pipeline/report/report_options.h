// What is measured and shown beside the outcomes: see held_out.h and report.h.
#pragma once

#include <cstdint>
#include <string>

#include "stages/options.h"

namespace nudge {

struct ReportOptions {
  std::string held_out;  // empty: none
  std::string html;      // empty: none
  uint32_t show_answers = 3;
};

keys::Fields OptionsOf(ReportOptions& options);

}  // namespace nudge
