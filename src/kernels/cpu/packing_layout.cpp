// The table of packed layouts and how quants lie in a group. Offsets: panel_layout.h.
#include <cstring>

#include "base/check.h"
#include "kernels/kernel_table.h"
#include "kernels/packing.h"

namespace hp::kernels {
namespace {

constexpr auto kCols = static_cast<std::size_t>(kPanelColumns);
constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);
constexpr std::size_t kHalfRow = kCols * sizeof(std::uint16_t);
constexpr std::size_t kFloatRow = kCols * sizeof(float);
constexpr std::uint32_t kNibbles = 0x0F0F0F0FU;
constexpr std::uint32_t kPairs = 0x03030303U;
constexpr std::uint32_t kOnes = 0x01010101U;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

std::uint32_t word(const std::uint8_t* p) {
  std::uint32_t v = 0;
  std::memcpy(&v, p, 4);
  return v;
}
void put(std::uint8_t* p, std::uint32_t v) {
  std::memcpy(p, &v, 4);
}

}  // namespace

std::size_t panel_bytes(DType source, std::int32_t k) {
  const PanelLayout l = panel_layout(source);
  switch (l.kind) {
    case PanelKind::f8:
      return (z(k) + l.chunk_k - 1) / l.chunk_k * kFloatRow + (z(k) + 3) / 4 * 4 * kCols;
    case PanelKind::bf16:
      return (z(k) + 1) / 2 * 2 * kHalfRow;
    default:
      return z(k) / l.chunk_k * l.chunk_bytes;
  }
}

Result<std::size_t> packed_bytes(DType source, std::int32_t n, std::int32_t k) {
  switch (source) {
    case DType::f8_e5m2:
    case DType::f8_e8m0:
    case DType::f64:
    case DType::i8:
    case DType::u8:
    case DType::i16:
    case DType::i32:
    case DType::i64:
      return fail(ErrorCode::unsupported, "weights of type {} cannot be multiplied; expected a float or quantized type",
                  traits(source).name);
    default:
      break;
  }
  if (n <= 0 || k <= 0 || z(k) % traits(source).block_size != 0) {
    return fail(ErrorCode::invalid_argument, "weight [{}, {}] of {}: expected positive sizes, columns in blocks of {}",
                n, k, traits(source).name, traits(source).block_size);
  }
  return (z(n) + kCols - 1) / kCols * panel_bytes(source, k);
}

PackedMatrix packed_view(DType source, std::int32_t n, std::int32_t k, const std::byte* data) {
  return {.source = source, .n = n, .k = k, .panel_bytes = panel_bytes(source, k), .data = data};
}

std::array<std::uint32_t, 8> load_quads(const PanelLayout& l, const std::uint8_t* group, std::size_t column) {
  std::array<std::uint32_t, 8> quads{};
  const std::uint8_t* at = group + column * 4;
  for (std::size_t j = 0; j < 8; ++j) {
    if (l.low_bits == 8) quads[j] = word(at + j * 64);
    if (l.low_bits == 4) quads[j] = (word(at + (j % 4) * 64) >> (j < 4 ? 0U : 4U)) & kNibbles;
    if (l.low_bits == 2) quads[j] = (word(at + (j / 4) * 64) >> (2 * (j % 4))) & kPairs;
  }
  if (l.high_bits == 0) return quads;
  const std::uint8_t* high = at + l.low_bits * std::size_t{64};
  for (std::size_t j = 0; j < 8; ++j) {
    const std::uint32_t bits =
        l.high_bits == 1 ? (word(high) >> j) & kOnes : (word(high + (j / 4) * 64) >> (2 * (j % 4))) & kPairs;
    quads[j] |= bits << l.low_bits;
  }
  return quads;
}

void store_quads(const PanelLayout& l, const std::array<std::uint32_t, 8>& quads, std::size_t column,
                 std::uint8_t* group) {
  std::uint8_t* at = group + column * 4;
  const auto planes = [&quads](std::uint8_t* out, unsigned shift) {
    for (std::size_t r = 0; r < 2; ++r) {
      std::uint32_t v = 0;
      for (std::size_t j = 0; j < 4; ++j) v |= ((quads[r * 4 + j] >> shift) & kPairs) << (2 * j);
      put(out + r * 64, v);
    }
  };
  if (l.low_bits == 8) {
    for (std::size_t j = 0; j < 8; ++j) put(at + j * 64, quads[j]);
  } else if (l.low_bits == 4) {
    for (std::size_t j = 0; j < 4; ++j) put(at + j * 64, (quads[j] & kNibbles) | (quads[j + 4] & kNibbles) << 4U);
  } else {
    planes(at, 0);
  }
  std::uint8_t* high = at + l.low_bits * std::size_t{64};
  if (l.high_bits == 2) planes(high, l.low_bits);
  if (l.high_bits == 1) {
    std::uint32_t v = 0;
    for (std::size_t j = 0; j < 8; ++j) v |= ((quads[j] >> l.low_bits) & kOnes) << j;
    put(high, v);
  }
}

}  // namespace hp::kernels
