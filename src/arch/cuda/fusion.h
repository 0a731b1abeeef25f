// What a step of few tokens fuses, by shape and number of rows. Bits never depend on it, so these are questions of
// speed alone, answered by measurements (gpu_bench SHAPE TYPE USERS FUSIONS; one H200).
#pragma once

#include <cstddef>

namespace hp::cuda {

/// Kernels that a step of few tokens saves, or memory that it does not leave idle.
enum Fusion : unsigned {
  fuse_norm = 1,
  fuse_quantize = 2,
  fuse_experts = 4,
  fuse_latent = 8,
  fuse_route = 16,
  fuse_ahead = 64,        ///< weights come into the L2 cache during attention: slower (V2-Lite 498 → 472), off
  fuse_whole = 128,       ///< many decodes of latent attention range after range (not a matter of few tokens)
  fuse_everywhere = 256,  ///< dense products make their rows wherever they can, also where that is slower: for tests
  fuse_spread = 512,      ///< a small matrix's tiles over clusters of thread blocks
};
inline constexpr unsigned kDefaultFusions =
    31 + fuse_whole + fuse_spread;  // whole: V2-Lite bf16, 256 users, 19,982 → 20,350

/// Whether a dense product of `rows` rows normalizes them itself. One row and fp8 only: 8B fp8 387 → 388 tokens/s, but
/// two rows 780 → 747, and bf16 243 → 229: its rows take 64 KiB of 192 that hold weights under way, and each block
/// normalizes before its first product, while a kernel before it would run beside the weights' first loads. For the
/// same reason not beside experts, where products are short (V2-Lite 363 → 355, bf16 331 → 322) …
constexpr bool norm_pays(bool fp8, bool experts, int k, int rows) {
  return fp8 && !experts && rows == 1 && k <= 4096;
}

/// … nor with K of 8192 (67B 55 → 54). Quantizing is half the work: 8B 388 → 389.
constexpr bool quantize_pays(int k, int rows) {
  return rows == 1 && k <= 4096;
}

/// The most sequences whose attention brings weights ahead: with more, attention itself fills the memory.
inline constexpr int kAheadDecodes = 8;
/// What it brings: what the memory gives in the time of one attention, and less than half of the cache (50 MB).
inline constexpr std::size_t kAheadBytes = std::size_t{20} << 20;

}  // namespace hp::cuda
