#include "stages/options.h"

namespace nudge::keys {

Fields Together(const std::vector<Fields>& parts) {
  Fields fields;
  for (const Fields& part : parts) fields.insert(fields.end(), part.begin(), part.end());
  return fields;
}

}  // namespace nudge::keys
