// NCCL itself behind our interface, on one GPU: a group of one rank gathers, broadcasts and sums its own device memory.
// usage: nccl_tool [LIBNCCL]. Exit code 77 when there is no GPU or no NCCL here. What several ranks say to each other
// is tested against a stand-in (src/comm/communicator_test.cpp); this shows that the stand-in's functions are the
// library's.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <vector>

#include "comm/nccl_ranks.h"

namespace {

using hp::Status;

/// The few calls of CUDA's driver that the check needs; the program is linked without CUDA.
struct Driver {
  void* handle = ::dlopen("libcuda.so.1", RTLD_NOW);
  template <typename... Args>
  [[nodiscard]] Status call(const char* name, Args... args) const {
    auto* function = handle == nullptr ? nullptr : reinterpret_cast<int (*)(Args...)>(::dlsym(handle, name));
    if (function == nullptr) return hp::fail(hp::ErrorCode::not_found, "libcuda.so.1: no {}", name);
    if (const int code = function(args...); code != 0)
      return hp::fail(hp::ErrorCode::unavailable, "{}: CUDA error {}", name, code);
    return {};
  }
};

using Address = unsigned long long;  // CUdeviceptr

hp::Result<int> run(const Driver& cuda, std::shared_ptr<const hp::NcclLibrary> nccl) {
  constexpr std::size_t kCount = 1000, kBytes = kCount * sizeof(float);
  Address data = 0, out = 0, scratch = 0;
  for (Address* memory : {&data, &out, &scratch}) HP_TRY_VOID(cuda.call("cuMemAlloc_v2", memory, kBytes));
  const auto pointer = [](Address at) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(at)); };
  hp::NcclDevice device{nullptr, pointer(scratch), kBytes, {}};
  device.fold = [&](const void* parts, void* sum, std::size_t count, int, hp::WireType type) {
    return cuda.call("cuMemcpyDtoD_v2", reinterpret_cast<Address>(sum), reinterpret_cast<Address>(parts),
                     count * hp::bytes_of(type));
  };
  HP_TRY(const auto id, hp::make_nccl_id(*nccl));
  HP_TRY(const auto rank, hp::join_nccl(std::move(nccl), id, 0, 1, device));
  std::vector<float> values(kCount), got(kCount);
  for (std::size_t i = 0; i < kCount; ++i) values[i] = 0.25F * static_cast<float>(i);
  int wrong = 0;
  const auto compare = [&](Address at, const char* what) -> Status {
    HP_TRY_VOID(cuda.call("cuCtxSynchronize"));
    HP_TRY_VOID(cuda.call("cuMemcpyDtoH_v2", static_cast<void*>(got.data()), at, kBytes));
    std::printf("%s: %s\n", what, got == values ? "as given" : "DIFFERENT");
    wrong += got == values ? 0 : 1;
    return {};
  };
  HP_TRY_VOID(cuda.call("cuMemcpyHtoD_v2", data, static_cast<const void*>(values.data()), kBytes));
  HP_TRY_VOID(rank->all_gather(pointer(data), pointer(out), kBytes));
  HP_TRY_VOID(compare(out, "gathered"));
  HP_TRY_VOID(rank->broadcast(pointer(data), kBytes, 0));
  HP_TRY_VOID(compare(data, "broadcast"));
  HP_TRY_VOID(rank->all_reduce_sum(pointer(data), kCount, hp::WireType::f32));
  HP_TRY_VOID(compare(data, "sum of one"));
  HP_TRY_VOID(rank->barrier());
  HP_TRY_VOID(cuda.call("cuCtxSynchronize"));
  rank->abort("the test is over");
  const Status late = rank->barrier();
  std::printf("after abort: %s\n", late ? "NOT REFUSED" : late.error().message.c_str());
  return wrong + (late ? 1 : 0);
}

int report(const hp::Error& error, int code) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const Driver cuda;
  void* context = nullptr;
  int device = 0;
  if (const Status s = cuda.call("cuInit", 0U); !s) return report(s.error(), 77);
  if (const Status s = cuda.call("cuDeviceGet", &device, 0); !s) return report(s.error(), 77);
  if (const Status s = cuda.call("cuDevicePrimaryCtxRetain", &context, device); !s) return report(s.error(), 77);
  if (const Status s = cuda.call("cuCtxSetCurrent", context); !s) return report(s.error(), 77);
  auto nccl = hp::load_nccl(argc > 1 ? argv[1] : "");
  if (!nccl) return report(nccl.error(), 77);
  const auto wrong = run(cuda, *nccl);
  if (!wrong) return report(wrong.error(), 1);
  std::printf("NCCL with one rank: %s\n", *wrong == 0 ? "passed" : "FAILED");
  return *wrong == 0 ? 0 : 1;
}
