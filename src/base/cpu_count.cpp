#include "base/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

namespace hp {
namespace {

// Anything that is no number, like "max", is none.
double number_in(std::istream& in) {
  double value = 0;
  return in >> value ? value : 0;
}

}  // namespace

double container_cpus(const std::filesystem::path& root) {
  double quota = 0, period = 0;
  if (std::ifstream both(root / "cpu.max"); both) {
    quota = number_in(both);
    period = number_in(both);
  } else {
    std::ifstream first(root / "cpu/cpu.cfs_quota_us"), second(root / "cpu/cpu.cfs_period_us");
    quota = number_in(first);
    period = number_in(second);
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

int usable_cpus(const std::filesystem::path& root) {
  const int here = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const double share = container_cpus(root);
  return share > 0 ? std::clamp(static_cast<int>(std::ceil(share)), 1, here) : here;
}

}  // namespace hp
