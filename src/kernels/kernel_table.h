// The dispatch table: one struct of function pointers per ISA at whole-operation grain, chosen once at start.
// Functions are pure over their arguments and work on the part of the output they are given; the caller splits work
// over threads (arch/cpu) and calls them between barriers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/params.h"
#include "tensor/tensor_view.h"

namespace hp::kernels {

enum class Isa { ref, avx2, avx512, amx };
std::string_view to_string(Isa isa);

struct KernelTable {
  Isa isa;

  // Packing, shared by every ISA: the layout is one. -----------------------------------------------------------------
  /// Operand that products with a weight of this source type want on this ISA. `ref` always wants f32.
  OperandKind (*operand_kind)(DType weight);

  // Activations. -----------------------------------------------------------------------------------------------------
  /// Prepares `rows` rows of x [rows, k] as bf16 or q8 (writes the arrays that the operand's pointers name).
  void (*to_bf16)(const float* x, std::int32_t rows, std::int32_t k, std::uint16_t* out);
  void (*to_q8)(const float* x, std::int32_t rows, std::int32_t k, const Q8Rows& out);

  // Products. --------------------------------------------------------------------------------------------------------
  void (*matmul)(const MatmulArgs& args);

  // Row operations, all on [rows, dim] with the given strides in floats.
  // -----------------------------------------------
  /// out = x / rms(x) · weight; rms over `dim`.
  void (*rms_norm)(const float* x, std::size_t x_stride, const float* weight, float eps, std::int32_t rows,
                   std::int32_t dim, float* out, std::size_t out_stride);
  /// x += y
  void (*add)(float* x, const float* y, std::size_t count);
  /// out = silu(gate) · up
  void (*swiglu)(const float* gate, const float* up, std::size_t count, float* out);
  /// Rotates `heads` heads of `head_dim` floats in place, their first `rope_dims` dimensions starting at `rope_offset`;
  /// cos/sin are [rope_dims / 2] for this position.
  void (*rope)(float* x, std::int32_t heads, std::int32_t head_dim, std::int32_t rope_offset, std::int32_t rope_dims,
               bool interleaved, const float* cos, const float* sin);

  // Attention. -------------------------------------------------------------------------------------------------------
  void (*kv_write)(const KvWriteArgs& args);
  std::size_t (*attention_scratch_floats)(const AttentionArgs& args);
  void (*attention)(const AttentionArgs& args);
  /// Merges the partial results of all splits, in order, into out.
  void (*attention_merge)(const AttentionArgs& args);

  // Embedding and sampling. ------------------------------------------------------------------------------------------
  /// Row `row` of a packed [n, k] weight as k floats (token embedding lookups from a packed, tied table).
  void (*unpack_row)(const PackedMatrix& weight, std::int32_t row, float* out);
};

/// Bytes of a packed [n, k] weight of this type, all panels (n padded to 16).
Result<std::size_t> packed_bytes(DType source, std::int32_t n, std::int32_t k);
/// Scales that a checkpoint keeps beside a weight's values: one for each block of rows × columns.
struct BlockScales {
  const float* data = nullptr;  // [n / rows, k / columns], both rounded up; null: all 1
  std::int32_t rows = 128, columns = 128;
};
/// Packs panels [panel_begin, panel_end) of a [n, k] weight into `out` (the start of the whole packed matrix).
/// Threads may pack disjoint panels of one matrix at once. `scales` go with f8_e4m3 only; columns is a multiple of 128,
/// or the whole row.
void pack_panels(const TensorView& weight, std::int32_t panel_begin, std::int32_t panel_end, std::byte* out,
                 const BlockScales& scales = {});
PackedMatrix packed_view(DType source, std::int32_t n, std::int32_t k, const std::byte* data);

/// Dequantizes `count` elements of any dtype to float; count is a multiple of the block size. The definition of every
/// format.
void dequantize(DType source, const std::byte* data, std::size_t count, float* out);

/// ISAs that this machine can run, worst first; `ref` is always there.
std::vector<Isa> available_isas();
const KernelTable& kernel_table(Isa isa);
/// "auto" (the best one here), "ref", "avx2", "avx512", "amx"; an error lists what this machine has.
Result<Isa> choose_isa(std::string_view name);

}  // namespace hp::kernels
