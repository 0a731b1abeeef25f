#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace hp {

void check_failed(const char* expression, const char* file, int line, const std::string& detail) {
  std::fprintf(stderr, "homeport: a bug stopped the process: HP_CHECK(%s) failed at %s:%d%s%s\n", expression, file,
               line, detail.empty() ? "" : ": ", detail.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace hp
