#include "model/compressed_tensors.h"

#include <cstring>
#include <map>
#include <string_view>

#include "base/check.h"

namespace hp {
namespace {

constexpr std::string_view kPacked = ".weight_packed", kScale = "_scale", kZero = "_zero_point", kShape = "_shape";
constexpr std::int64_t kNibblesPerWord = 8;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

float float_at(const TensorView& view, std::int64_t i) {
  if (view.dtype == DType::f32) {
    float v = 0;
    std::memcpy(&v, view.data + z(i) * 4, 4);
    return v;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, view.data + z(i) * 2, 2);
  return view.dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

bool is_float(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

using Index = std::map<std::string, std::size_t, std::less<>>;

Error wrong(const NamedTensor& t, std::string_view expected) {
  return {ErrorCode::unsupported, fmt::format("'{}': '{}' is {} {}: expected {}", t.source, t.name,
                                              traits(t.view.dtype).name, t.view.shape.to_string(), expected)};
}

/// Largest of our int4 blocks that a group holds whole; empty when 32 does not divide it.
std::optional<DType> int4_blocks(std::int64_t group) {
  if (group % 128 == 0) return DType::i4_128;
  if (group % 64 == 0) return DType::i4_64;
  if (group % 32 == 0) return DType::i4_32;
  return std::nullopt;
}

/// [n, groups] floats beside a matrix [n, k].
Result<std::int64_t> group_of(const NamedTensor& scale, std::int64_t n, std::int64_t k) {
  const Shape& s = scale.view.shape;
  if (!is_float(scale.view.dtype) || s.rank() != 2 || s[0] != n || s[1] < 1 || k % s[1] != 0)
    return tl::unexpected(wrong(scale, fmt::format("floats [{}, groups of {}]", n, k)));
  return k / s[1];
}

const NamedTensor* find(const std::vector<NamedTensor>& tensors, const Index& index, const std::string& name) {
  const auto it = index.find(name);
  return it == index.end() ? nullptr : &tensors[it->second];
}

Result<NamedTensor> int4_matrix(const std::vector<NamedTensor>& tensors, const Index& index,
                                const NamedTensor& packed) {
  const std::string weight = packed.name.substr(0, packed.name.size() - kPacked.size()) + ".weight";
  const NamedTensor* scale = find(tensors, index, weight + std::string(kScale));
  const NamedTensor* zero = find(tensors, index, weight + std::string(kZero));
  const NamedTensor* shape = find(tensors, index, weight + std::string(kShape));
  const TensorView& view = packed.view;
  if (view.dtype != DType::i32 || view.shape.rank() != 2) return tl::unexpected(wrong(packed, "i32 [n, k / 8]"));
  if (scale == nullptr)
    return fail(ErrorCode::corrupt_data, "'{}': '{}' has no '{}{}'", packed.source, packed.name, weight, kScale);
  const std::int64_t n = view.shape[0], k = view.shape[1] * kNibblesPerWord;
  if (shape != nullptr) {
    std::int64_t said[2] = {};
    if (shape->view.dtype != DType::i64 || shape->view.shape != Shape{2})
      return tl::unexpected(wrong(*shape, "i64 [2]"));
    std::memcpy(said, shape->view.data, sizeof(said));
    if (said[0] != n || said[1] != k)
      return fail(ErrorCode::unsupported, "'{}': '{}' says [{}, {}], but '{}' holds int4 of [{}, {}]", shape->source,
                  shape->name, said[0], said[1], packed.name, n, k);
  }
  HP_TRY(const std::int64_t group, group_of(*scale, n, k));
  const auto blocks = int4_blocks(group);
  if (!blocks) return tl::unexpected(wrong(*scale, "groups that are multiples of 32"));
  const Shape zeros = {(n + kNibblesPerWord - 1) / kNibblesPerWord, k / group};
  if (zero != nullptr && (zero->view.dtype != DType::i32 || zero->view.shape != zeros))
    return tl::unexpected(wrong(*zero, "i32 " + zeros.to_string()));
  return NamedTensor{
      .name = weight, .view = {.dtype = *blocks, .shape = {n, k}, .data = nullptr}, .source = packed.source};
}

}  // namespace

Status resolve_compressed_tensors(std::vector<NamedTensor>& tensors) {
  Index index;
  for (std::size_t i = 0; i < tensors.size(); ++i) index.emplace(tensors[i].name, i);
  std::vector<NamedTensor> added;
  for (NamedTensor& t : tensors) {
    if (t.name.ends_with(kPacked)) {
      HP_TRY(NamedTensor matrix, int4_matrix(tensors, index, t));
      added.push_back(std::move(matrix));
      continue;
    }
    const NamedTensor* scale = find(tensors, index, t.name + std::string(kScale));
    if (scale == nullptr || !t.name.ends_with(".weight") || t.view.shape.rank() != 2) continue;
    if (t.view.dtype == DType::f8_e4m3) {
      tensors[index.find(scale->name)->second].name += "_inv";  // both names multiply
      continue;
    }
    if (t.view.dtype != DType::i8) continue;
    const std::int64_t n = t.view.shape[0], k = t.view.shape[1];
    HP_TRY(const std::int64_t group, group_of(*scale, n, k));
    if (k % 32 != 0 || group % 32 != 0) return tl::unexpected(wrong(t, "rows and groups of multiples of 32"));
    added.push_back(
        {.name = t.name, .view = {.dtype = DType::i8_32, .shape = {n, k}, .data = nullptr}, .source = t.source});
    t.name += "_packed";
  }
  tensors.insert(tensors.end(), added.begin(), added.end());
  return {};
}

void compressed_rows(const Checkpoint& checkpoint, const NamedTensor& tensor, std::int64_t first, std::int64_t count,
                     std::span<std::byte> out, RowPart part) {
  const NamedTensor* values = checkpoint.find(tensor.name + "_packed");
  const NamedTensor* scale = checkpoint.find(tensor.name + std::string(kScale));
  const NamedTensor* zero = checkpoint.find(tensor.name + std::string(kZero));
  HP_CHECK(values != nullptr && scale != nullptr, "'{}' has not been checked", tensor.name);
  const DTypeTraits& t = traits(tensor.view.dtype);
  const std::int64_t k = tensor.view.shape[1], groups = scale->view.shape[1], block = t.block_size;
  const bool four = tensor.view.dtype != DType::i8_32;
  const std::size_t row_bytes = z(four ? k / 2 : k), data_bytes = z(four ? block / 2 : block);
  const std::int64_t end = part.columns < 0 ? k : part.first + part.columns;
  HP_CHECK(part.first % block == 0 && end % block == 0 && end <= k, "columns {} to {} of {}", part.first, end, k);
  HP_CHECK(out.size() == storage_bytes(tensor.view.dtype, z(count * (end - part.first))), "{} bytes", out.size());
  std::byte* to = out.data();
  for (std::int64_t r = first; r < first + count; ++r) {
    for (std::int64_t c = part.first; c < end; c += block, to += t.block_bytes) {
      const std::int64_t g = c / (k / groups);
      const float d = float_at(scale->view, r * groups + g);
      std::memcpy(to, &d, sizeof(d));
      if (four) {
        std::uint32_t word = 0x88888888U;
        if (zero != nullptr) std::memcpy(&word, zero->view.data + z(r / kNibblesPerWord * groups + g) * 4, 4);
        const std::uint32_t offset = (word >> (4 * (r % kNibblesPerWord))) & 15U;
        std::memcpy(to + 4, &offset, sizeof(offset));  // the zero, then three unused bytes
      }
      const std::byte* from = values->view.data + z(r) * row_bytes + z(four ? c / 2 : c);
      std::memcpy(to + (four ? 8 : 4), from, data_bytes);
    }
  }
}

}  // namespace hp
