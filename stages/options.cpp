#include "stages/options.h"

#include <algorithm>

namespace nudge::keys {

Fields Together(const std::vector<Fields>& parts) {
  Fields fields;
  for (const Fields& part : parts) fields.insert(fields.end(), part.begin(), part.end());
  return fields;
}

std::vector<std::string> WrongValues(const Fields& fields) {
  std::vector<std::string> wrong;
  const auto number = [](double value, double least, double most) {
    return value >= least && value <= most ? ""
                                           : ToText(value) + " is outside " + ToRange(least, most);
  };
  for (const Field& field : fields) {
    const std::string what = std::visit(
        Overloaded{
            [&](const Number<std::chrono::milliseconds>& slot) {
              return number(static_cast<double>(slot.at->count()), slot.least, slot.most);
            },
            [&]<class T>(const Number<T>& slot) {
              return number(static_cast<double>(*slot.at), slot.least, slot.most);
            },
            [](const Choice& slot) -> std::string {
              const bool known =
                  std::find(slot.names.begin(), slot.names.end(), *slot.at) != slot.names.end();
              return known ? "" : "'" + *slot.at + "' is none of " + Join(slot.names, ", ");
            },
            [](const Subset& slot) -> std::string {
              const bool any = std::find(slot.at.begin(), slot.at.end(), true) != slot.at.end();
              return any ? "" : "none of " + Join(slot.names, ", ");
            },
            [](const auto&) { return std::string(); },
        },
        field.slot);
    if (!what.empty()) wrong.push_back(field.path + ": " + what);
  }
  return wrong;
}

std::string ToRange(double least, double most) {
  return ToText(least) + ".." + ToText(most);
}

std::string Join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string joined;
  for (const std::string& part : parts) {
    if (!joined.empty()) joined += separator;
    joined += part;
  }
  return joined;
}

}  // namespace nudge::keys
