// NVIDIA's management library, loaded at run time: the program neither links it nor needs it. Tests load one of their
// own with the same entry points (tests/tools/fake_nvml.cpp).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ops/cluster_view.h"

namespace hp::ops {

class Nvml {
 public:
  /// An error says what is missing: the library, one of its functions, or a driver that answers.
  static Result<std::unique_ptr<Nvml>> load(const std::string& library);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  /// Every GPU as it is now. What a board does not tell stays empty. XID errors are counted since load().
  std::vector<GpuView> read();

 private:
  struct Library;
  explicit Nvml(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace hp::ops
