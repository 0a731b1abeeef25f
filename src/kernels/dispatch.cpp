// Which instruction sets this build and this machine have, and their tables.
#include <fmt/ranges.h>

#include "base/check.h"
#include "kernels/isa_tables.h"

namespace hp::kernels {

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::ref:
      return "ref";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> have = {Isa::ref};
  if (avx2_available()) have.push_back(Isa::avx2);
  if (avx512_available()) have.push_back(Isa::avx512);
  if (amx_available()) have.push_back(Isa::amx);
  return have;
}

const KernelTable& kernel_table(Isa isa) {
  if (isa == Isa::avx512 && avx512_available()) return avx512_table();
  if (isa == Isa::avx2 && avx2_available()) return avx2_table();
  if (isa == Isa::amx && amx_available()) return amx_table();
  HP_CHECK(isa == Isa::ref, "no kernels for {}", to_string(isa));
  return ref_table();
}

Result<Isa> choose_isa(std::string_view name) {
  const std::vector<Isa> have = available_isas();
  if (name == "auto") return have.back();
  std::vector<std::string_view> names = {"auto"};
  for (const Isa isa : have) {
    if (name == to_string(isa)) return isa;
    names.push_back(to_string(isa));
  }
  return fail(ErrorCode::unsupported, "instruction set '{}' is not to be had here; expected one of {}", name,
              fmt::join(names, ", "));
}

}  // namespace hp::kernels
