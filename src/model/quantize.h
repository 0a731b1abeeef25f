// Writes a smaller copy of a Hugging Face checkpoint: reads rows, quantizes, writes shard after shard. Memory holds a
// few stripes of one tensor, whatever the model's size. A run that was cut off goes on after its last whole shard.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "model/quantize_formats.h"
#include "model/quantize_plan.h"

namespace hp {

struct QuantizeOptions {
  std::filesystem::path input, output;  ///< folders; output is new, empty, or a run with the same options that was cut
  QuantizeChoices choices;
  /// Canonical name of a matrix to one weight per column for int4's rounding; empty or a name less: all count the same.
  std::map<std::string, std::vector<float>, std::less<>> importance = {};
  /// Called after every stripe with source bytes; may be empty.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

struct QuantizedClass {
  std::string name;  ///< "attention", "experts", …
  WeightStorage storage = WeightStorage::copy;
  std::size_t tensors = 0, parameters = 0, bytes_before = 0, bytes_after = 0;
  QuantError error;
};

struct QuantizeReport {
  std::size_t bytes_before = 0, bytes_after = 0;
  std::size_t shards = 0, resumed_shards = 0;
  std::int64_t group = 0;
  std::size_t weighted = 0;  ///< int4 tensors rounded by importance
  std::vector<QuantizedClass> classes;
  std::vector<std::string> notes;
};

Result<QuantizeReport> quantize_checkpoint(const QuantizeOptions& options, ParallelTeam& team);

}  // namespace hp
