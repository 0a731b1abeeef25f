// A chunked body (RFC 9112, section 7.1), from bytes in any grouping. Keeps no byte of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp::net {

class ChunkReader {
 public:
  /// Takes the body's bytes off the front of `bytes`, as far as it goes; its data goes to `on_data`, false stops here.
  /// An error is final.
  Status push(std::string_view& bytes, const std::function<bool(std::string_view)>& on_data);
  [[nodiscard]] bool done() const { return state_ == State::done; }
  /// What is still to come of the chunk being read, as its size line says.
  [[nodiscard]] std::uint64_t left() const { return left_; }
  /// Headers after the last chunk; their text is dropped.
  [[nodiscard]] bool has_trailers() const { return has_trailers_; }

 private:
  enum class State : std::uint8_t { size, data, data_end, trailer, done };
  /// Moves one line out of `bytes` into line_; true when it is complete.
  Result<bool> take_line(std::string_view& bytes);
  Status on_line();

  std::string line_;
  std::uint64_t left_ = 0;
  State state_ = State::size;
  bool has_trailers_ = false;
};

/// Digits alone, in the base, within 64 bits.
Result<std::uint64_t> parse_length(std::string_view text, int base);

}  // namespace hp::net
