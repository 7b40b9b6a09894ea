#include "pipeline/report/report_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(ReportOptions& options) {
  using enum Effect;
  using enum Path::Base;
  return {
      {"report.held_out", Path{&options.held_out, kConfigFolder}, "", kOperational,
       "questions with answers that are never learnt from, JSON lines; empty: none"},
      {"report.html", Path{&options.html, kWorkingFolder}, "", kOperational,
       "page to write; empty: none"},
      {"report.show_answers", Number{&options.show_answers, 0, 100}, "", kOperational,
       "to held-out questions, before and after"},
  };
}

}  // namespace nudge
