// The AVX-512 table: which operations have an AVX-512 version (avx512_kernels.h); the rest is ref's.
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/isa_tables.h"
#include "kernels/packing.h"

namespace hp::kernels {
namespace {

/// Whether products of bf16 pairs are faster than twice as many of floats: on AMD's cores, which have both at full
/// rate; Intel's take as long for a pair as for two floats.
bool bf16_pays() {
  return __builtin_cpu_supports("avx512bf16") != 0 && __builtin_cpu_is("amd") != 0;
}

OperandKind operand_kind(DType weight) {
  static const bool pays = bf16_pays();
  if (weight == DType::bf16 && pays) return OperandKind::bf16;
  return panel_layout(weight).kind == PanelKind::quants ? OperandKind::q8 : OperandKind::f32;
}

void matmul(const MatmulArgs& a) {
  switch (a.weight.source) {
    case DType::f32:
    case DType::f16:
      return avx512::matmul_float(a);
    case DType::bf16:
      return a.operand.kind == OperandKind::bf16 ? avx512::matmul_bf16(a) : avx512::matmul_float(a);
    case DType::f8_e4m3:
      return avx512::matmul_f8(a);
    default:
      return avx512::matmul_kquant(a);
  }
}

}  // namespace

bool avx512_available() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0;
}

const KernelTable& avx512_table() {
  static const KernelTable kTable = {
      .isa = Isa::avx512,
      .operand_kind = operand_kind,
      .to_bf16 = avx512::to_bf16,
      .to_q8 = avx512::to_q8,
      .matmul = matmul,
      .rms_norm = avx512::rms_norm,
      .add = avx512::add,
      .swiglu = avx512::swiglu,
      .rope = avx512::rope,
      .kv_write = avx512::kv_write,
      .attention_scratch_floats = avx512::attention_scratch_floats,
      .attention = avx512::attention,
      .attention_merge = avx512::attention_merge,
      .unpack_row = ref_table().unpack_row,
  };
  return kTable;
}

}  // namespace hp::kernels
