#include "net/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

#include "base/check.h"

namespace hp::net {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  HP_CHECK(EVP_DigestInit_ex(state_->context, kind == Kind::sha256 ? EVP_sha256() : EVP_sha1(), nullptr) == 1);
}
Digest::~Digest() = default;

void Digest::update(std::span<const std::byte> bytes) {
  HP_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned int size = 0;
  HP_CHECK(EVP_DigestFinal_ex(state_->context, out.data(), &size) == 1);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", out[i]);
  return text;
}

std::string sha256_hex(std::string_view text) {
  Digest digest(Digest::Kind::sha256);
  digest.update(std::as_bytes(std::span(text.data(), text.size())));
  return digest.hex();
}

}  // namespace hp::net
