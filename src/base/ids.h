// Typed ids: a BlockId never passes for a SequenceId.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace hp {

template <typename Tag, typename Int>
struct Id {
  Int value{};
  constexpr auto operator<=>(const Id&) const = default;
};

using TokenId = std::int32_t;  ///< an index into the vocabulary; plain, because it is arithmetic's business too

using RequestId = Id<struct RequestTag, std::uint64_t>;  ///< one client's wish, unique in a process
using SequenceId =
    Id<struct SequenceTag, std::uint64_t>;  ///< one token timeline in the engine (a request with n = 3 has three)
using BlockId = Id<struct BlockTag, std::int32_t>;  ///< one unit of KV storage; negative means none

}  // namespace hp

template <typename Tag, typename Int>
struct std::hash<hp::Id<Tag, Int>> {
  std::size_t operator()(const hp::Id<Tag, Int>& id) const noexcept { return std::hash<Int>{}(id.value); }
};
