// Bytes by purpose, as an engine that holds a model reports them and a planner predicts them.
#pragma once

#include <cstddef>

namespace hp {

/// What a loaded model holds in memory, in bytes.
struct EngineMemory {
  std::size_t weights = 0;  ///< packed matrices, norms, biases
  std::size_t tables = 0;   ///< of rotary positions
  std::size_t step = 0;     ///< activations, logits, scratch
  std::size_t kv = 0;
  [[nodiscard]] std::size_t total() const { return weights + tables + step + kv; }
  friend bool operator==(const EngineMemory&, const EngineMemory&) = default;
};

}  // namespace hp
