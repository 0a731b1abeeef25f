// From a sizing to files that run it: Kubernetes manifests, systemd units, a compose file, a Containerfile. Templates
// are in deploy/; here they are filled. Pure: nothing is written to disk.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "planner/autoscale.h"
#include "planner/sizing.h"

namespace hp::planner {

enum class DeployTarget { kubernetes, systemd, compose };
std::optional<DeployTarget> deploy_target_from(std::string_view name);

struct DeployOptions {
  std::string name = "homeport", name_space = "homeport";
  std::string image = "homeport:latest";
  std::string program = "/usr/bin/homeport";
  std::string model_path = "/models/model.gguf";              ///< inside the container, or on the machine (systemd)
  std::string model_name;                                     ///< as the API shows it; empty: the sizing's model
  std::string models_directory = "/var/lib/homeport/models";  ///< compose: mounted at /models
  std::string prometheus = "http://prometheus-operated.monitoring:9090";
  std::string rules_yaml = {};  ///< Prometheus rule groups ("groups: …"), of `homeport ops rules`; may be empty
};

struct DeployFile {
  std::string path, content;
};

/// The configuration must use one device per replica: a node of this version runs on one.
Result<std::vector<DeployFile>> deploy_files(DeployTarget target, const SizeRequest& request,
                                             const Configuration& configuration, const DeployOptions& options);

/// {{key}} is replaced, {{#key}} … {{/key}} kept when the key's value is not empty, {{^key}} … {{/key}} when it is. A
/// key that `values` does not have is a bug in a template.
std::string fill_template(std::string_view text, const std::map<std::string, std::string, std::less<>>& values);

}  // namespace hp::planner
