// Tables of the ISAs that this build holds; the dispatcher picks one of them.
#pragma once

#include "kernels/kernel_table.h"

namespace hp::kernels {
const KernelTable& ref_table();
const KernelTable& avx2_table();
bool avx2_available();  ///< this machine has AVX2, FMA and F16C
const KernelTable& avx512_table();
bool avx512_available();  ///< this machine has AVX-512 F, BW, DQ, VL and VNNI
const KernelTable& amx_table();
bool amx_available();  ///< AVX-512 and AMX int8 and bf16, and the kernel lends the tile registers
}  // namespace hp::kernels
