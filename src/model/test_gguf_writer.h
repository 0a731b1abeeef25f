// Builds small GGUF files in memory for tests: honest ones, and ones that lie.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hp {

class TestGgufWriter {
 public:
  std::uint32_t version = 3;

  void add_string(std::string_view key, std::string_view value) {
    entry(key, 8);
    text(meta_, value);
  }
  void add_u32(std::string_view key, std::uint32_t value) {
    entry(key, 4);
    put(meta_, value);
  }
  void add_u16(std::string_view key, std::uint16_t value) {
    entry(key, 2);
    put(meta_, value);
  }
  void add_bool(std::string_view key, bool value) {
    entry(key, 7);
    put(meta_, static_cast<std::uint8_t>(value ? 1 : 0));
  }
  void add_f32(std::string_view key, float value) {
    entry(key, 6);
    put(meta_, value);
  }
  void add_strings(std::string_view key, const std::vector<std::string>& values) {
    entry(key, 9);
    put(meta_, std::uint32_t{8});
    put(meta_, std::uint64_t{values.size()});
    for (const std::string& v : values) text(meta_, v);
  }
  /// Dimensions innermost first, as in the file. `offset_error` is added to the true offset.
  void add_tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                  const std::string& data, std::uint64_t offset_error = 0) {
    text(table_, name);
    put(table_, static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t d : dims) put(table_, d);
    put(table_, type);
    put(table_, std::uint64_t{data_.size()} + offset_error);
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    ++tensors_;
  }
  void add_f32_tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::span<const float> values) {
    add_tensor(name, dims, 0, std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes()));
  }

  [[nodiscard]] std::string bytes() const {
    std::string out = "GGUF";
    put(out, version);
    put(out, tensors_);
    put(out, keys_);
    out += meta_ + table_;
    out.resize((out.size() + 31) / 32 * 32, '\0');
    return out + data_;
  }

 private:
  template <typename T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  static void text(std::string& out, std::string_view s) {
    put(out, std::uint64_t{s.size()});
    out += s;
  }
  void entry(std::string_view key, std::uint32_t type) {
    text(meta_, key);
    put(meta_, type);
    ++keys_;
  }
  std::string meta_, table_, data_;
  std::uint64_t tensors_ = 0, keys_ = 0;
};

}  // namespace hp
