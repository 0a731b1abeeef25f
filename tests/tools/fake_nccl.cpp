// A libnccl.so.2 without GPUs, for tests of how the program speaks to NCCL: "device memory" is memory, a stream is a
// number that must be the one of FAKE_NCCL's ranks, and the ranks are threads. Calls are done at once; one that waits
// for others ends when any rank aborts, as NCCL's kernels do.
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Group {
  int world = 0, arrived = 0, working = 0;
  unsigned long turn = 0;
  bool aborted = false;
  std::vector<const void*> in;
};

std::mutex mutex;
std::condition_variable wake;
std::map<std::string, Group> groups;
int names = 0;

}  // namespace

struct ncclComm {
  Group* group;
  int rank;
};

namespace {

/// Meets the others with `in`, does `share` with everybody's, and waits until all have done theirs.
template <typename F>
int together(ncclComm* comm, const void* in, const F& share) {
  std::unique_lock lock(mutex);
  Group& g = *comm->group;
  if (g.aborted) return 6;  // ncclRemoteError
  g.in[static_cast<std::size_t>(comm->rank)] = in;
  const unsigned long turn = g.turn;
  if (++g.arrived == g.world) {
    g.arrived = 0, g.working = g.world, ++g.turn;
    wake.notify_all();
  } else {
    wake.wait(lock, [&] { return g.turn != turn || g.aborted; });
    if (g.turn == turn) return 6;
  }
  share(g);
  if (--g.working == 0) wake.notify_all();
  wake.wait(lock, [&] { return g.working == 0; });
  return 0;
}

}  // namespace

extern "C" {

struct ncclUniqueId {
  char internal[128];
};

int ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex);
  std::memset(id->internal, 0, sizeof id->internal);
  std::strcpy(id->internal, ("group " + std::to_string(names++)).c_str());
  return 0;
}

int ncclCommInitRank(ncclComm** out, int world, ncclUniqueId id, int rank) {
  if (rank < 0 || rank >= world) return 4;  // ncclInvalidArgument
  {
    const std::lock_guard lock(mutex);
    Group& g = groups[id.internal];
    g.world = world;
    g.in.resize(static_cast<std::size_t>(world));
    *out = new ncclComm{&g, rank};
  }
  return together(*out, nullptr, [](Group&) {});
}

int ncclAllGather(const void* in, void* out, std::size_t count, int type, ncclComm* comm, void* stream) {
  if (type != 0 || stream != reinterpret_cast<void*>(0x57)) return 4;
  return together(comm, in, [&](const Group& g) {
    for (std::size_t r = 0; r < g.in.size(); ++r) std::memmove(static_cast<char*>(out) + r * count, g.in[r], count);
  });
}

int ncclBroadcast(const void* in, void* out, std::size_t count, int type, int root, ncclComm* comm, void* stream) {
  if (type != 0 || stream != reinterpret_cast<void*>(0x57)) return 4;
  return together(comm, in, [&](const Group& g) { std::memmove(out, g.in[static_cast<std::size_t>(root)], count); });
}

int ncclCommGetAsyncError(ncclComm* comm, int* code) {
  const std::lock_guard lock(mutex);
  *code = comm->group->aborted ? 6 : 0;
  return 0;
}

int ncclCommAbort(ncclComm* comm) {
  const std::lock_guard lock(mutex);
  comm->group->aborted = true;
  wake.notify_all();
  return 0;  // a call of this rank may still hold it
}

int ncclCommDestroy(ncclComm* comm) {
  delete comm;
  return 0;
}

const char* ncclGetErrorString(int code) {
  return code == 4 ? "invalid argument" : code == 6 ? "remote process exited" : "unhandled error";
}

const char* ncclGetLastError(ncclComm*) {
  return "";
}
}
