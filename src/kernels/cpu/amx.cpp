// The AMX table: AVX-512's, with tile products where there are rows enough. Asks the kernel for the tile registers.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/cpu/amx_kernels.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/isa_tables.h"

namespace hp::kernels {
namespace {

constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr int kTileData = 18;               // XFEATURE_XTILEDATA

void matmul(const MatmulArgs& a) {
  if (a.m >= amx::kTileRowsMin && a.operand.kind == OperandKind::q8) return amx::matmul_quants(a);
  avx512_table().matmul(a);
}

/// CPUID leaf 7: AMX-BF16 (bit 22), AMX-TILE (24), AMX-INT8 (25) of EDX. g++ 12 cannot be asked by name.
bool cpu_has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kNeeded = (1U << 22U) | (1U << 24U) | (1U << 25U);
  return (d & kNeeded) == kNeeded;
}

}  // namespace

bool amx_available() {
  static const bool kAvailable =
      avx512_available() && cpu_has_tiles() && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return kAvailable;
}

const KernelTable& amx_table() {
  static const KernelTable kTable = [] {
    KernelTable t = avx512_table();
    t.isa = Isa::amx;
    t.matmul = matmul;
    return t;
  }();
  return kTable;
}

}  // namespace hp::kernels
