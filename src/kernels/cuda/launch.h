// Every GPU operation as a function that puts work on a stream. Shapes in comments; pointers are device memory unless a
// name says host. Errors of launches are sticky in CUDA: the caller checks once per step.
//
// The rule (ARCHITECTURE.md, batch invariance): an output element's sum over K runs in one order, in steps of the
// tensor instruction, whatever tile shape the batch size picks; so every tile shape gives the same bits.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/int_layout.h"
#include "kernels/cuda/product_out.h"
#include "kernels/cuda/routing.h"

namespace hp::cuda {

using Bf16 = __nv_bfloat16;
using Fp8 = __nv_fp8_e4m3;

inline constexpr int kBlockTokens = 16;  ///< of a KV block
inline constexpr int kUnitKeys = 128;    ///< keys per partial result of attention; the fold over units is in order
inline constexpr int kQuantBlock = 128;  ///< fp8 weights: one scale per 128 × 128 block
inline constexpr int kTileChoices = 5;   ///< tile shapes of matmul, smallest first
inline constexpr int kChainTile = 5;     ///< one more, of bf16, without the rule of the same bits
inline constexpr int kOperandRows[] = {8, 16, 32, 64, 128, 256};

/// A weight [n, k] on the device, k in sequence. fp8: scale[((row / 64) · 2 + half) · k_blocks + k / 128], half = row /
/// 8 % 2. Whole numbers: int_layout.h.
struct Matrix {
  bool fp8 = false;
  IntForm ints;  ///< bits > 0: whole numbers, without fp8, scale and maps
  int n = 0, k = 0;
  void* data = nullptr;
  float* scale = nullptr;
  CUtensorMap map[2];  ///< boxes of 64 and 128 rows
  [[nodiscard]] int k_blocks() const { return (k + kQuantBlock - 1) / kQuantBlock; }
  [[nodiscard]] std::size_t bytes() const {
    if (ints.bits > 0) return int_weight_bytes(ints, n, k);
    return static_cast<std::size_t>(n) * static_cast<std::size_t>(k) * (fp8 ? 1U : 2U);
  }
  [[nodiscard]] std::size_t scales() const {
    return static_cast<std::size_t>((n + 63) / 64) * 2U * static_cast<std::size_t>(k_blocks());
  }
};

/// Activations [rows, k] as a product reads them: bf16, or fp8 with one scale per row.
struct Activations {
  bool fp8 = false;
  int rows = 0, k = 0;
  void* data = nullptr;
  float* row_scale = nullptr;
  CUtensorMap map[6];  ///< boxes of kOperandRows
};

/// Fill the maps; data, n (rows, a multiple of 4) and k (beyond three steps of 64, fp8 128) are set. False when the
/// driver refuses (the sizes are then wrong).
bool make_maps(Matrix& matrix);
bool make_maps(Activations& activations);

/// out[t, n] for the first t rows. tile < 0: chosen from the shape, one of the first kTileChoices if bits matter.
void matmul(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream,
            int tile = -1);
int choose_tile(bool fp8, int n, int t, int multiprocessors, const MatmulWays& ways = {});

/// Rows that a product of few tokens makes itself, in every thread block: f32 rows normalized (to the weight's form),
/// or bf16 rows quantized. The bits are those of rms_norm or quantize_rows followed by matmul.
struct RowSource {
  const void* data = nullptr;   ///< f32 [rows, k] with a norm, else bf16 [rows, k]
  const float* norm = nullptr;  ///< [k] or null
  float eps = 0;
  int rows = 0;
  const int* row_index = nullptr;  ///< rows of f32 data to take, or null: the first ones
  bool by_token = false;           ///< grouped: a group's row is its fourth number, not its first row
  /// Grouped: the thread blocks choose the experts themselves, from logits f32 [rows, experts], and note them in
  /// `grouping` as route() with 0 columns does. Null: the groups are there.
  const float *router_logits = nullptr, *router_bias = nullptr;
  RouterShape router;
  Grouping grouping;
};
inline constexpr int kNormedHere = 2;               ///< most rows to normalize so: they run one after the other
inline constexpr int kQuantizedHere = 4 * 512 * 8;  ///< most elements to quantize so
/// Whether a product can.
bool makes_rows(bool fp8, int k, int rows, bool norm);
void matmul(const Matrix& weight, const RowSource& source, const MatmulOut& out, cudaStream_t stream);

/// Products of many matrices of `rows` rows that lie one after the other in `weight`: group i multiplies rows
/// [first, end) of the input with matrix `expert` and writes the same rows of the output.
struct MatmulGroups {
  int rows = 0;
  const int4* list = nullptr;  ///< device: {expert, first, end, token}, end - first at most the tile's columns
  const int* count = nullptr;  ///< device: how many
  int most = 0;                ///< bound of the count, sizes the grid
  bool by_token = false;       ///< a group's row of the input is its token (whole numbers only)
};
void grouped_matmul(const Matrix& weight, const Activations& input, const MatmulGroups& groups, const MatmulOut& out,
                    cudaStream_t stream, int tile);
/// Groups of one row each, of rows that the product makes itself.
void grouped_matmul(const Matrix& weight, const RowSource& source, const MatmulGroups& groups, const MatmulOut& out,
                    cudaStream_t stream);
int tile_columns(int tile);

// Rows. ---------------------------------------------------------------------------------------------------------------
/// x f32 [t, hidden] = embedding bf16 [vocab, hidden] at tokens.
void embed(const Bf16* embedding, const int* tokens, int t, int hidden, float* x, cudaStream_t stream);
/// out = norm(x[rows[i]]) · weight for i < t; rows null: row i itself. Written as out.fp8 says.
void rms_norm(const float* x, const int* rows, const float* weight, float eps, int t, const Activations& out,
              cudaStream_t stream);
/// The same of bf16 rows [t, out.k] that lie `stride` elements apart.
void rms_norm_bf16(const Bf16* x, int stride, const float* weight, float eps, int t, const Activations& out,
                   cudaStream_t stream);
/// bf16 [t, k] to fp8 with a scale per row.
void quantize_rows(const Bf16* x, int t, const Activations& out, cudaStream_t stream);

// Load and benchmarks.
// --------------------------------------------------------------------------------------------------
enum class RowPlace : int { plain, gate, up };  ///< gate and up rows interleave by 8
/// Rows of a bf16 [rows, k] into `out` from its row `first` (of the plain matrix): copied, quantized by 128 × 128, or
/// rounded to whole numbers.
void place_weight(const Bf16* rows_data, int rows, Matrix& out, int first, RowPlace place, cudaStream_t stream);
/// The same for rows that are fp8 already, with their scales [rows / 128, k / 128].
void place_fp8_weight(const Fp8* rows_data, const float* scales, int rows, Matrix& out, int first, RowPlace place,
                      cudaStream_t stream);
/// Rows of whole numbers into `out` (out.ints): codes as int_layout.h has them, scales [rows, k / group].
void place_int_weight(const std::uint8_t* codes, const float* scales, int rows, Matrix& out, int first, RowPlace place,
                      cudaStream_t stream);
/// Uniform values of the given deviation; a function of (seed, index).
void random_bf16(Bf16* out, std::size_t count, float deviation, std::uint64_t seed, cudaStream_t stream);
void random_weight(Matrix& out, float deviation, std::uint64_t seed, cudaStream_t stream);
void fill_f32(float* out, std::size_t count, float value, cudaStream_t stream);

int multiprocessor_count();

}  // namespace hp::cuda
