// Which element type every tensor has in a format of the planner, as the usual tools write it.
#pragma once

#include "model/tensor_table.h"
#include "planner/model_costs.h"

namespace hp::planner {

DType tensor_type(const WeightFormat& format, const ModelConfig& config, const TensorSpec& tensor);
/// Of all tensors as a file holds them, fp8 scales included.
std::size_t file_bytes(const ModelConfig& config, const WeightFormat& format);

}  // namespace hp::planner
