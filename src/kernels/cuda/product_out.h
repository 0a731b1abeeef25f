// Where a product's results go and how it may use the chip: plain values.
#pragma once

namespace hp::cuda {

enum class Epilogue : int {
  bf16,     ///< out bf16 [t, n]
  f32,      ///< out f32 [t, n]
  add_f32,  ///< out f32 [t, n] += product
  swiglu,   ///< rows of the weight interleaved: 8 gate, 8 up; out bf16 [t, n / 2] = silu(gate) · up
};

/// How products use the chip; bits depend on `invariant` alone.
struct MatmulWays {
  int spread = 0;         ///< most thread blocks that share a small matrix's tiles in clusters of two
  bool invariant = true;  ///< the same bits for every number of tokens
};

struct MatmulOut {
  Epilogue epilogue = Epilogue::bf16;
  void* data = nullptr;
  int stride = 0;               ///< elements from one row to the next
  const float* bias = nullptr;  ///< [n] or null
  MatmulWays ways = {};
};

}  // namespace hp::cuda
