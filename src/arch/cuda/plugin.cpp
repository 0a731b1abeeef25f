#include "arch/cuda/plugin.h"

#include <dlfcn.h>

#include <vector>

namespace hp::cuda {
namespace {

namespace fs = std::filesystem;

inline constexpr char kLibrary[] = "libhomeport_cuda.so";

std::vector<fs::path> places(const fs::path& wanted) {
  if (!wanted.empty()) return {wanted};
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (error) return {kLibrary};
  // Beside the program, in an installation's lib, in the build tree; then the loader's own path.
  return {program / kLibrary, program.parent_path() / "lib" / kLibrary, program.parent_path() / "cuda" / kLibrary,
          kLibrary};
}

using EntryFunction = const PluginApi* (*)();

Result<const PluginApi*> entry_of(void* library, const std::string& place) {
  const auto entry = reinterpret_cast<EntryFunction>(::dlsym(library, kPluginEntry));
  if (entry == nullptr)
    return fail(ErrorCode::corrupt_data, "{}: expected the function {}, found none", place, kPluginEntry);
  const PluginApi* api = entry();
  if (api->version != kPluginVersion) {
    return fail(ErrorCode::unsupported, "{}: version {} of the GPU plug-in, this program expects {}; run `make cuda`",
                place, api->version, kPluginVersion);
  }
  char why[256] = {};
  if (api->devices(why, sizeof why) == 0) return fail(ErrorCode::unavailable, "{}", why);
  return api;
}

Result<const PluginApi*> find_plugin(const fs::path& path) {
  std::string tried;
  for (const fs::path& place : places(path)) {
    std::error_code error;
    if (place.is_absolute() && !fs::exists(place, error)) continue;
    if (void* library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL)) return entry_of(library, place.string());
    tried = ::dlerror();
  }
  return fail(ErrorCode::not_found, "the GPU plug-in {} was not found ({}); `make cuda` builds it",
              path.empty() ? kLibrary : path.string(), tried.empty() ? "no such file" : tried);
}

}  // namespace

Result<const PluginApi*> load_plugin(const fs::path& path) {
  if (!path.empty()) return find_plugin(path);
  static const Result<const PluginApi*> found = find_plugin({});
  return found;
}

std::string describe_gpus() {
  const auto api = load_plugin();
  if (!api) return api.error().message;
  const int count = (*api)->devices(nullptr, 0);
  return std::to_string(count) + (count == 1 ? " GPU" : " GPUs");
}

}  // namespace hp::cuda
