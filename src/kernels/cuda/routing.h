// What choosing experts takes and gives: plain values that routing kernels and grouped products share.
#pragma once

#include <cuda_runtime.h>

namespace hp::cuda {

inline constexpr int kMostExperts = 256, kMostChosen = 16;

struct RouterShape {
  int experts = 0, chosen = 0;
  int groups = 1, chosen_groups = 1;
  bool sigmoid = false;    ///< else softmax over all experts
  bool best_two = false;   ///< a group's score is the sum of its best two, else its best
  bool normalize = false;  ///< weights of the chosen sum to one
  float weight_scale = 1.0F;
};

/// Tokens by expert: slot s of the grouped rows is token `token[s]`; token t's i-th expert is at slot[t · chosen + i].
struct Grouping {
  int* token = nullptr;     // [t · chosen]
  int* slot = nullptr;      // [t · chosen]
  float* weight = nullptr;  // [t · chosen]
  int* expert = nullptr;    // [t · chosen]
  int4* tiles = nullptr;    // {expert, first slot, end slot, -}: at most t · chosen / columns + experts
  int* tile_count = nullptr;
};

}  // namespace hp::cuda
