// `nudge key add`: a new API key for the HTTP server.
#include <iostream>

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

}  // namespace nudge
