// SHA-256 and git's blob hash (SHA-1), for checking downloads. Not for secrets.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

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

}  // namespace hp::net
