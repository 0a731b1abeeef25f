// Writes a smaller copy of a Hugging Face checkpoint: reads rows, quantizes, writes shard after shard. Memory holds a
// few stripes of one tensor, whatever the model's size. A run that was cut off goes on after its last whole shard.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "model/quantize_formats.h"
#include "model/quantize_plan.h"
#include "model/rounded_store.h"

namespace hp {

struct QuantizeOptions {
  std::filesystem::path input, output;  ///< folders; output is new, empty, or a run with the same options that was cut
  QuantizeChoices choices;
  /// Rounds what it can of the plan's matrices into the store, before the rest is rounded to nearest; empty: nothing.
  std::function<Status(const QuantizePlan& plan, const RoundedStore& store)> calibrate = {};
  std::string calibration = {};  ///< what `calibrate` depends on: a run that is taken up must have the same
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
  std::size_t calibrated = 0;  ///< tensors
  std::vector<QuantizedClass> classes;
  std::vector<std::string> notes;
};

Result<QuantizeReport> quantize_checkpoint(const QuantizeOptions& options, ParallelTeam& team);

}  // namespace hp
