// What the fake node says: pure functions.
#include <fmt/format.h>

#include <span>

#include "base/hash.h"
#include "sim/fake_node.h"
#include "sim/fake_stream.h"

namespace hp {

TokenId fake_token(std::string_view prompt, std::uint64_t seed, std::uint32_t choice, std::uint64_t position) {
  const auto text = hash128(std::as_bytes(std::span(prompt.data(), prompt.size())), seed);
  const std::uint64_t key[] = {text.low, text.high, choice, position};
  return static_cast<TokenId>(hash128(std::as_bytes(std::span(key))).low % 50'000);
}

bool fake_held_back(std::string_view prompt, TokenId token) {
  return token % 7 == 0 && prompt.find("steady") == std::string_view::npos;
}

bool fake_stops(std::string_view prompt, TokenId token, std::uint64_t position) {
  return position >= 8 && token % 101 == 0 && prompt.find("endless") == std::string_view::npos;
}

std::string fake_text(TokenId token) {
  return fmt::format(" w{}", token);
}

FakeReply fake_reply(std::string_view prompt, std::uint64_t seed, std::uint32_t choice, std::int64_t max_tokens) {
  FakeReply reply;
  for (std::uint64_t i = 0;; ++i) {
    const TokenId token = fake_token(prompt, seed, choice, i);
    if (fake_stops(prompt, token, i)) {
      reply.finish_reason = "stop";
      return reply;
    }
    reply.text += fake_text(token);
    ++reply.tokens;
    if (static_cast<std::int64_t>(reply.tokens) >= max_tokens) {
      reply.finish_reason = "length";
      return reply;
    }
  }
}

}  // namespace hp
