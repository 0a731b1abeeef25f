// Operations of the AVX2 table, one group per file; avx2.cpp puts them together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/params.h"

namespace hp::kernels::avx2 {

// avx2_rows.cpp
void to_q8(const float* x, std::int32_t rows, std::int32_t k, const Q8Rows& out);
void to_bf16(const float* x, std::int32_t rows, std::int32_t k, std::uint16_t* out);
void rms_norm(const float* x, std::size_t x_stride, const float* weight, float eps, std::int32_t rows, std::int32_t dim,
              float* out, std::size_t out_stride);
void add(float* x, const float* y, std::size_t count);
void swiglu(const float* gate, const float* up, std::size_t count, float* out);
void rope(float* x, std::int32_t heads, std::int32_t head_dim, std::int32_t rope_offset, std::int32_t rope_dims,
          bool interleaved, const float* cos, const float* sin);

// avx2_attention.cpp
void kv_write(const KvWriteArgs& args);
std::size_t attention_scratch_floats(const AttentionArgs& args);
void attention(const AttentionArgs& args);
void attention_merge(const AttentionArgs& args);

// avx2_matmul_q8.cpp: every quantized layout
void matmul_q8(const MatmulArgs& args);
// avx2_matmul_float.cpp: f32, f16, bf16 and fp8 weights with float operands
void matmul_float(const MatmulArgs& args);

}  // namespace hp::kernels::avx2
