// A plug-in without a GPU (built as libhomeport_cuda.so in a folder of its own), for tests of what happens around a
// device: its next token is a plain function of the last one and its position. FAKE_GPU=hang:N or lost:N makes step N
// hang for ever or fail, FAKE_GPU=memory finds no memory for the KV cache; with FAKE_GPU_ONCE=FILE only while the file
// is there, which the fault removes.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "arch/cuda/plugin_api.h"

namespace {

using namespace hp::cuda;

struct Model {
  int vocab = 0;
  long steps = 0;
  std::string error;
  std::vector<float> logits;
  std::vector<std::int32_t> drawn;
};

Model& of(void* model) {
  return *static_cast<Model*>(model);
}

// The step at which the fault comes, or -1.
long fault_step(const char* kind) {
  const char* fault = std::getenv("FAKE_GPU");
  const std::size_t size = std::strlen(kind);
  if (fault == nullptr || std::strncmp(fault, kind, size) != 0) return -1;
  return fault[size] == ':' ? std::atol(fault + size + 1) : 0;
}

bool fault_is_due() {
  const char* once = std::getenv("FAKE_GPU_ONCE");
  return once == nullptr || ::unlink(once) == 0;
}

void* create(int, const ModelShape* shape, const ModelOptions*, const float*, const float*, char*, std::size_t) {
  auto* model = new Model;
  model->vocab = shape->vocab;
  return model;
}

int finish(void* model) {
  if (fault_step("memory") < 0 || !fault_is_due()) return 0;
  of(model).error = "GPU 0: no memory for the KV cache: wants 1024 MiB, 12 MiB are free";
  return 1;
}

void info(void*, DeviceInfo* out) {
  std::strcpy(out->name, "fake GPU");
  out->blocks = 4096, out->block_tokens = 16, out->block_bytes = 1024;
}

int step(void* model, const PluginSequence* batch, int sequences, const float** logits, const std::int32_t** drawn) {
  Model& m = of(model);
  ++m.steps;
  if (m.steps == fault_step("hang") && fault_is_due())
    for (;;) ::pause();
  if (m.steps == fault_step("lost") && fault_is_due()) {
    m.error = "GPU 0: an illegal memory access was encountered";
    return 1;
  }
  m.drawn.clear();
  for (int i = 0; i < sequences; ++i) {
    const PluginSequence& s = batch[i];
    for (int row = s.count - s.logit_rows; row < s.count; ++row)
      m.drawn.push_back((1000 + (s.tokens[row] * 31 + (s.position + row) * 7) % 500) % m.vocab);
  }
  if (logits != nullptr) {
    m.logits.assign(m.drawn.size() * static_cast<std::size_t>(m.vocab), 0.0F);
    for (std::size_t row = 0; row < m.drawn.size(); ++row)
      m.logits[row * static_cast<std::size_t>(m.vocab) + static_cast<std::size_t>(m.drawn[row])] = 50.0F;
    *logits = m.logits.data();
  }
  if (drawn != nullptr) *drawn = m.drawn.data();
  return 0;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const hp::cuda::PluginApi* homeport_cuda_plugin() {
  static const PluginApi api = {
      kPluginVersion,
      [](char*, std::size_t) { return 1; },
      create,
      [](void*, const WeightRows*) { return 0; },
      [](void*, std::uint64_t) { return 0; },
      finish,
      info,
      step,
      [](void*, const float**) { return 1; },
      [](void* model) { return of(model).error.c_str(); },
      [](void* model) { delete static_cast<Model*>(model); },
  };
  return &api;
}
