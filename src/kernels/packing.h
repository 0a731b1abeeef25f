// Writing and reading packed weights. The layout itself: panel_layout.h.
#pragma once

#include "kernels/panel_layout.h"

namespace hp::kernels {

std::size_t panel_bytes(DType source, std::int32_t k);

/// Stored quants of one column of a group as 8 quads, the first k in the lowest byte (before any lookup).
std::array<std::uint32_t, 8> load_quads(const PanelLayout& layout, const std::uint8_t* group, std::size_t column);
void store_quads(const PanelLayout& layout, const std::array<std::uint32_t, 8>& quads, std::size_t column,
                 std::uint8_t* group);

/// Floats of one column from `k_begin`, which is a multiple of kQuantGroup; k_count ≤ kQuantGroup. Element i goes to
/// out[i · stride].
void unpack_column(const PackedMatrix& weight, std::int32_t column, std::int32_t k_begin, std::int32_t k_count,
                   float* out, std::size_t stride);
/// Floats [k_count, 16] of one panel, as unpack_column for each of its columns.
void unpack_group(const PackedMatrix& weight, std::int32_t panel, std::int32_t k_begin, std::int32_t k_count,
                  float* out);

}  // namespace hp::kernels
