// Scales of an 8-bit KV cache: where they lie behind the values of a layer's block.
//
// Each token's K and V of a kv head are cut into groups of kKvScaleDims dimensions; a value is q · scale with
// |q| ≤ 127 and an f16 scale. K's scales come first, [kv_heads, groups, block_tokens], then V's in the same order (none
// of its own for latent attention, whose V is K).
#pragma once

#include <cstddef>

#include "kernels/params.h"
#include "tensor/kv_groups.h"

namespace hp::kernels {

struct KvScales {
  std::size_t block_tokens, k_groups, v_groups;
  std::size_t k_first, v_first;  ///< bytes from the block's start

  explicit constexpr KvScales(const KvView& kv)
      : block_tokens(static_cast<std::size_t>(kv.block_tokens)),
        k_groups(kv_scale_groups(kv.head_dim)),
        v_groups(kv.v_in_k ? k_groups : kv_scale_groups(kv.v_dim)),
        k_first(static_cast<std::size_t>(kv.kv_heads) *
                static_cast<std::size_t>(kv.head_dim + (kv.v_in_k ? 0 : kv.v_dim)) * block_tokens),
        v_first(kv.v_in_k ? k_first : k_first + static_cast<std::size_t>(kv.kv_heads) * k_groups * block_tokens * 2) {}

  /// Bytes from the block's start to the scale of slot 0; a block's slots follow each other.
  [[nodiscard]] constexpr std::size_t k_at(std::size_t head, std::size_t dim) const {
    return k_first + (head * k_groups + dim / kKvScaleDims) * block_tokens * 2;
  }
  [[nodiscard]] constexpr std::size_t v_at(std::size_t head, std::size_t dim) const {
    return v_first + (head * v_groups + dim / kKvScaleDims) * block_tokens * 2;
  }
};

}  // namespace hp::kernels
