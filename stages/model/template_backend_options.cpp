#include "stages/model/template_backend_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(TemplateBackendOptions& options) {
  using enum Effect;
  return {
      {"model.template_dimension", Number{&options.dimension, 0, 4096}, "", kSemantic,
       "numbers in a vector of the template backend; 0: it makes none"},
  };
}

}  // namespace nudge
