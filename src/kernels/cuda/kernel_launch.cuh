// Launches with programmatic dependence: each kernel may start while the one before it drains; it waits by itself
// (wait_for_previous) before it touches what that one writes.
#pragma once

#include <cuda_runtime.h>

namespace hp::cuda {

/// `cluster` neighbouring thread blocks run together and see each other's shared memory.
template <typename... Params, typename... Args>
void launch_clusters(void (*kernel)(Params...), int cluster, dim3 grid, dim3 block, std::size_t shared,
                     cudaStream_t stream, Args... args) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cudaLaunchAttribute attribute[2];
  attribute[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute[0].val.programmaticStreamSerializationAllowed = 1;
  attribute[1].id = cudaLaunchAttributeClusterDimension;
  attribute[1].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  config.attrs = attribute;
  config.numAttrs = cluster > 1 ? 2 : 1;
  cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, Args... args) {
  launch_clusters(kernel, 1, grid, block, shared, stream, args...);
}

}  // namespace hp::cuda
