#include "connectors/command_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(CommandOptions& options) {
  using enum Effect;
  return {
      {"commands.keys_file", Path{&options.keys_file, Path::Base::kConfigFolder}, "", kSemantic,
       "of those who may command, as `nudge key pair` writes it: commands without a signature by "
       "one of them are refused; empty: whoever may write to the input commands"},
  };
}

}  // namespace nudge
