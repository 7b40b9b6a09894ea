// `nudge form`: the form of a model's weights that answers fastest on this machine.
#include <iostream>

#include "pipeline/commands/commands.h"
#include "stages/hash.h"
#include "stages/model/serve/served_form.h"

namespace nudge {

int MakeForm(const FormArguments& arguments) {
  const Result<GgufInfo> info = ReadGgufInfo(arguments.model_path);
  if (!info.ok()) return FailWith(info.error(), kExitFailed);
  if (info->type != "model" || info->IsEmbedder()) {
    return FailWith({Code::kUnsupportedModel, arguments.model_path + ": no language model",
                     "name the file of model.language_model"},
                    kExitFailed);
  }
  const Result<std::string> sha256 = FileSha256(arguments.model_path);
  if (!sha256.ok()) return FailWith(sha256.error(), kExitFailed);
  FormChoice choice = ChooseForm(*info, ServingMachine::Here());
  for (const FormType type : kFormTypes) {
    if (arguments.as == Name(type)) choice = {type, "as asked for"};
  }
  const std::string path = ServedFormPath(arguments.model_path);
  if (const auto found = FindServedForm(arguments.model_path, *sha256); found.ok() && *found) {
    const Result<GgufInfo> form = ReadGgufInfo(path);
    if (form.ok() && form->quantisation == Name(choice.type)) {
      std::cout << path << ": there, " << Name(choice.type) << ": " << choice.why << "\n";
      return kExitDone;
    }
  }
  if (const auto made = MakeServedForm(arguments.model_path, *sha256, choice.type); !made.ok()) {
    return FailWith(made.error(), kExitFailed);
  }
  if (choice.type == FormType::kFile) {
    std::cout << arguments.model_path << ": answers itself: " << choice.why << "\n";
  } else {
    std::cout << path << ": made, " << Name(choice.type) << ": " << choice.why << "\n";
  }
  return kExitDone;
}

}  // namespace nudge
