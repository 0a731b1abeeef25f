// Tables of the ISAs that this build holds; the dispatcher picks one of them.
#pragma once

#include "kernels/kernel_table.h"

namespace hp::kernels {
const KernelTable& ref_table();
}  // namespace hp::kernels
