// The shape of the eight AMX tiles, as LDTILECFG reads it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp::kernels::amx {

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  /// A tile of no rows must have no row bytes either.
  void set(int tile, std::size_t count, std::size_t bytes) {
    rows[tile] = static_cast<std::uint8_t>(count);
    row_bytes[tile] = static_cast<std::uint16_t>(count == 0 ? 0 : bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace hp::kernels::amx
