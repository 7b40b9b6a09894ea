// `nudge key`: a new API key for the HTTP server, or a new key pair for who signs commands.
#include <iostream>

#include "connectors/command_keys.h"
#include "connectors/http/keys.h"
#include "pipeline/commands/commands.h"

namespace nudge {

int AddApiKey(const AddKeyArguments& arguments) {
  KeyRequest request{.file = arguments.file,
                     .tenant = arguments.tenant,
                     .user = arguments.user,
                     .names_users = arguments.names_users,
                     .roles = {},
                     .requests_per_minute = arguments.requests_per_minute,
                     .groups = {arguments.groups.begin(), arguments.groups.end()}};
  for (const Role role : kRoles) {
    for (const std::string& name : arguments.roles) {
      if (name == Name(role)) request.roles.push_back(role);
    }
  }
  const Result<std::string> key = AddKey(request);
  if (!key.ok()) return FailWith(key.error(), kExitFailed);
  std::cerr << "This key is shown once; " << arguments.file << " has its hash alone.\n";
  std::cout << *key << "\n";
  return kExitDone;
}

int AddKeyPair(const KeyPairArguments& arguments) {
  const Result<std::string> id =
      MakeKeyPair({arguments.private_file, arguments.file, arguments.tenant});
  if (!id.ok()) return FailWith(id.error(), kExitFailed);
  std::cerr << "The private key is in " << arguments.private_file << " alone; " << arguments.file
            << " has the public one.\n";
  std::cout << *id << "\n";
  return kExitDone;
}

}  // namespace nudge
