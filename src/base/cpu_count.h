// How many processors this process may keep busy.
#pragma once

#include <filesystem>

namespace hp {

/// The share of a container, in processors; 0: none is set. `root`: where the cgroup files are, of version 2 or 1.
double container_cpus(const std::filesystem::path& root = "/sys/fs/cgroup");
/// Of this process' affinity, and no more than its container's share, rounded up; at least 1.
int usable_cpus(const std::filesystem::path& root = "/sys/fs/cgroup");

}  // namespace hp
