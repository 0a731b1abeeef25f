#include "comm/nccl_ranks.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>
#include <string>
#include <utility>

namespace hp {
namespace {

// The part of nccl.h that is used here, as every version since 2.10 has it (https://github.com/NVIDIA/nccl).
using Comm = struct NcclCommTag*;
using Code = int;  // ncclResult_t
struct UniqueId {
  char internal[128];
};
inline constexpr Code kSuccess = 0, kInProgress = 7;
inline constexpr int kInt8 = 0;  // ncclDataType_t
static_assert(sizeof(UniqueId) == sizeof(NcclId));

}  // namespace

class NcclLibrary {
 public:
  ~NcclLibrary() {
    if (handle != nullptr) ::dlclose(handle);
  }
  NcclLibrary() = default;
  NcclLibrary(const NcclLibrary&) = delete;
  NcclLibrary& operator=(const NcclLibrary&) = delete;

  [[nodiscard]] Status check(Code code, std::string_view what, Comm comm = nullptr) const {
    if (code == kSuccess) return {};
    const char* more = comm != nullptr && last_error != nullptr ? last_error(comm) : nullptr;
    return fail(ErrorCode::unavailable, "NCCL: {}: {}{}{}", what, error_string(code),
                more != nullptr && *more != 0 ? ": " : "", more != nullptr ? more : "");
  }

  void* handle = nullptr;
  Code (*get_unique_id)(UniqueId*) = nullptr;
  Code (*init_rank)(Comm*, int world, UniqueId id, int rank) = nullptr;
  Code (*all_gather)(const void* in, void* out, std::size_t count, int type, Comm, void* stream) = nullptr;
  Code (*broadcast)(const void* in, void* out, std::size_t count, int type, int root, Comm, void* stream) = nullptr;
  Code (*async_error)(Comm, Code*) = nullptr;
  Code (*abort)(Comm) = nullptr;
  Code (*destroy)(Comm) = nullptr;
  const char* (*error_string)(Code) = nullptr;
  const char* (*last_error)(Comm) = nullptr;  ///< since 2.13; null before
};

namespace {

template <typename F>
Status bind(void* handle, const std::string& place, const char* name, F& out) {
  out = reinterpret_cast<F>(::dlsym(handle, name));
  if (out == nullptr) return fail(ErrorCode::unsupported, "{}: expected the function {}, found none", place, name);
  return {};
}

/// One rank's communicator. abort() may come from another thread while a call waits inside the library: that is what
/// frees it. A handle is given back once.
class NcclRank final : public Communicator {
 public:
  NcclRank(std::shared_ptr<const NcclLibrary> nccl, int rank, int world, NcclDevice device)
      : nccl_(std::move(nccl)), rank_(rank), world_(world), device_(std::move(device)) {}
  ~NcclRank() override {
    if (Comm comm = comm_.exchange(nullptr)) nccl_->destroy(comm);
  }
  NcclRank(const NcclRank&) = delete;
  NcclRank& operator=(const NcclRank&) = delete;

  Status join(const NcclId& id) {
    UniqueId name{};
    std::copy(id.begin(), id.end(), name.internal);
    Comm comm = nullptr;
    HP_TRY_VOID(nccl_->check(nccl_->init_rank(&comm, world_, name, rank_), fmt::format("rank {} joins", rank_)));
    comm_ = comm;
    return {};
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int world() const override { return world_; }

  Status all_reduce_sum(void* data, std::size_t count, WireType type) override {
    const std::size_t bytes = count * bytes_of(type), parts = bytes * static_cast<std::size_t>(world_);
    if (parts > device_.scratch_bytes)
      return fail(ErrorCode::internal, "a sum of {} bytes among {} ranks needs {} bytes of scratch, there are {}",
                  bytes, world_, parts, device_.scratch_bytes);
    HP_TRY_VOID(all_gather(data, device_.scratch, bytes));
    return device_.fold(device_.scratch, data, count, world_, type);
  }
  Status all_gather(const void* in, void* out, std::size_t bytes) override {
    return call("gathering", [&](Comm comm) { return nccl_->all_gather(in, out, bytes, kInt8, comm, device_.stream); });
  }
  Status broadcast(void* data, std::size_t bytes, int root) override {
    return call("broadcast",
                [&](Comm comm) { return nccl_->broadcast(data, data, bytes, kInt8, root, comm, device_.stream); });
  }
  /// On the device's order of things: what follows on the stream happens after every rank has come here.
  Status barrier() override {
    const std::size_t bytes = static_cast<std::size_t>(world_);
    if (device_.scratch_bytes < 2 * bytes) return fail(ErrorCode::internal, "no scratch for a barrier");
    return all_gather(static_cast<std::byte*>(device_.scratch) + bytes, device_.scratch, 1);
  }
  void abort(std::string_view why) override {
    {
      const std::lock_guard lock(mutex_);
      if (broken_.empty()) broken_ = why;
    }
    if (Comm comm = comm_.exchange(nullptr)) nccl_->abort(comm);
  }

 private:
  template <typename F>
  Status call(const char* what, const F& f) {
    Comm comm = comm_;
    if (comm == nullptr) {
      const std::lock_guard lock(mutex_);
      return fail(ErrorCode::unavailable, "{}", broken_);
    }
    Code late = kSuccess;  // of calls before this one
    Status status = nccl_->check(nccl_->async_error(comm, &late), what, comm);
    if (status && late != kInProgress) status = nccl_->check(late, what, comm);
    if (status) status = nccl_->check(f(comm), what, comm);
    if (!status) abort(status.error().message);
    return status;
  }

  const std::shared_ptr<const NcclLibrary> nccl_;
  const int rank_, world_;
  const NcclDevice device_;
  std::atomic<Comm> comm_{nullptr};
  std::mutex mutex_;
  std::string broken_;  ///< why there is no communicator any more
};

}  // namespace

Result<std::shared_ptr<const NcclLibrary>> load_nccl(const std::filesystem::path& path) {
  const std::string place = path.empty() ? "libnccl.so.2" : path.string();
  auto nccl = std::make_shared<NcclLibrary>();
  nccl->handle = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (nccl->handle == nullptr)
    return fail(ErrorCode::not_found,
                "several GPUs need NVIDIA's NCCL: {} was not found ({}); Debian and Ubuntu: libnccl2 of NVIDIA's "
                "repository",
                place, ::dlerror());
  HP_TRY_VOID(bind(nccl->handle, place, "ncclGetUniqueId", nccl->get_unique_id));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclCommInitRank", nccl->init_rank));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclAllGather", nccl->all_gather));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclBroadcast", nccl->broadcast));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclCommGetAsyncError", nccl->async_error));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclCommAbort", nccl->abort));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclCommDestroy", nccl->destroy));
  HP_TRY_VOID(bind(nccl->handle, place, "ncclGetErrorString", nccl->error_string));
  nccl->last_error = reinterpret_cast<const char* (*)(Comm)>(::dlsym(nccl->handle, "ncclGetLastError"));
  return nccl;
}

Result<NcclId> make_nccl_id(const NcclLibrary& nccl) {
  UniqueId name{};
  HP_TRY_VOID(nccl.check(nccl.get_unique_id(&name), "a name for the group"));
  NcclId id{};
  std::copy(std::begin(name.internal), std::end(name.internal), id.begin());
  return id;
}

Result<std::unique_ptr<Communicator>> join_nccl(std::shared_ptr<const NcclLibrary> nccl, const NcclId& id, int rank,
                                                int world, NcclDevice device) {
  auto joined = std::make_unique<NcclRank>(std::move(nccl), rank, world, std::move(device));
  HP_TRY_VOID(joined->join(id));
  return joined;
}

}  // namespace hp
