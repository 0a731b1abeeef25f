// SHA-256 and git's blob hash (SHA-1), for checking downloads and for telling API keys and cached requests apart.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hp::net {

class Digest {
 public:
  enum class Kind { sha256, sha1 };
  explicit Digest(Kind kind);
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void update(std::span<const std::byte> bytes);
  /// Lower-case hexadecimal; ends the digest.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view text);

}  // namespace hp::net
