// The plug-in's door: C functions around DeviceModel. No exception leaves it.
#include <cstring>
#include <new>
#include <string>

#include "arch/cuda/device_model.h"

namespace hp::cuda {
namespace {

DeviceModel& of(void* model) {
  return *static_cast<DeviceModel*>(model);
}

void put(char* out, std::size_t size, const std::string& sentence) {
  if (size == 0) return;
  std::strncpy(out, sentence.c_str(), size - 1);
  out[size - 1] = 0;
}

int devices(char* error, std::size_t error_size) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    put(error, error_size, std::string("no GPU: ") + cudaGetErrorString(status));
    return 0;
  }
  int usable = 0;
  for (int i = 0; i < count; ++i) {
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i);
    if (major != 9) break;
    ++usable;
  }
  if (usable == 0) put(error, error_size, "no GPU of compute capability 9 (Hopper): the kernels are built for it");
  return usable;
}

void* create(int device, const ModelShape* shape, const ModelOptions* options, const float* rope_cos,
             const float* rope_sin, char* error, std::size_t error_size) {
  auto* model = new (std::nothrow) DeviceModel(device, *shape, *options);
  if (model == nullptr) return nullptr;
  if (model->create(rope_cos, rope_sin)) return model;
  put(error, error_size, model->error());
  delete model;
  return nullptr;
}

int step(void* model, const PluginSequence* batch, int sequences, const float** logits, const std::int32_t** drawn) {
  if (!of(model).step(batch, sequences, logits != nullptr, drawn != nullptr)) return 1;
  if (logits != nullptr) *logits = of(model).logits();
  if (drawn != nullptr) *drawn = of(model).drawn();
  return 0;
}

}  // namespace
}  // namespace hp::cuda

extern "C" __attribute__((visibility("default"))) const hp::cuda::PluginApi* homeport_cuda_plugin() {
  using namespace hp::cuda;
  static const PluginApi api = {
      kPluginVersion,
      devices,
      create,
      [](void* model, const WeightRows* rows) { return of(model).load(*rows) ? 0 : 1; },
      [](void* model, std::uint64_t seed) { return of(model).load_random(seed) ? 0 : 1; },
      [](void* model) { return of(model).finish() ? 0 : 1; },
      [](void* model, DeviceInfo* out) { of(model).describe(*out); },
      step,
      [](void* model, const float** logits) {
        if (!of(model).bring_logits()) return 1;
        *logits = of(model).logits();
        return 0;
      },
      [](void* model) { return of(model).error().c_str(); },
      [](void* model) { delete static_cast<DeviceModel*>(model); },
  };
  return &api;
}
