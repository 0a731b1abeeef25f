// Operations of the AVX-512 tables, one group per file; avx512.cpp and amx.cpp put them into tables.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/params.h"

namespace hp::kernels::avx512 {

// avx512_rows.cpp
void to_q8(const float* x, std::int32_t rows, std::int32_t k, const Q8Rows& out);
void to_bf16(const float* x, std::int32_t rows, std::int32_t k, std::uint16_t* out);
void rms_norm(const float* x, std::size_t x_stride, const float* weight, float eps, std::int32_t rows, std::int32_t dim,
              float* out, std::size_t out_stride);
void add(float* x, const float* y, std::size_t count);
void swiglu(const float* gate, const float* up, std::size_t count, float* out);
void rope(float* x, std::int32_t heads, std::int32_t head_dim, std::int32_t rope_offset, std::int32_t rope_dims,
          bool interleaved, const float* cos, const float* sin);

// avx512_attention.cpp
void kv_write(const KvWriteArgs& args);
std::size_t attention_scratch_floats(const AttentionArgs& args);
void attention(const AttentionArgs& args);
void attention_merge(const AttentionArgs& args);

// avx512_float.cpp: f32, f16, bf16 with float activations
void matmul_float(const MatmulArgs& args);

// avx512_bf16.cpp: bf16 with bf16 activations
void matmul_bf16(const MatmulArgs& args);

// avx512_kquant.cpp: every quantized layout
void matmul_kquant(const MatmulArgs& args);

// avx512_many_rows.cpp: the same for many rows
void matmul_many_rows(const MatmulArgs& args);

// avx512_f8.cpp: fp8 with float operands
void matmul_f8(const MatmulArgs& args);

}  // namespace hp::kernels::avx512
