// The AVX2 table: quantized weights take q8 operands, everything else floats. Needs AVX2, FMA and F16C (2013 and
// later).
#include "kernels/cpu/avx2_kernels.h"
#include "kernels/isa_tables.h"
#include "kernels/packing.h"

namespace hp::kernels {
namespace {

OperandKind operand_kind(DType weight) {
  return panel_layout(weight).kind == PanelKind::quants ? OperandKind::q8 : OperandKind::f32;
}

void matmul(const MatmulArgs& a) {
  return operand_kind(a.weight.source) == OperandKind::q8 ? avx2::matmul_q8(a) : avx2::matmul_float(a);
}

}  // namespace

bool avx2_available() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}

const KernelTable& avx2_table() {
  static const KernelTable kTable = {
      .isa = Isa::avx2,
      .operand_kind = operand_kind,
      .to_bf16 = avx2::to_bf16,
      .to_q8 = avx2::to_q8,
      .matmul = matmul,
      .rms_norm = avx2::rms_norm,
      .add = avx2::add,
      .swiglu = avx2::swiglu,
      .rope = avx2::rope,
      .kv_write = avx2::kv_write,
      .attention_scratch_floats = avx2::attention_scratch_floats,
      .attention = avx2::attention,
      .attention_merge = avx2::attention_merge,
      .unpack_row = ref_table().unpack_row,
  };
  return kTable;
}

}  // namespace hp::kernels
