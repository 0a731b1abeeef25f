// Random numbers without state: Philox4x32-10 (Salmon et al., SC'11) as a pure function of (seed, position, choice).
// A sampler that resumes on another machine asks for the same counter and gets the same number.
#pragma once

#include <array>
#include <cstdint>

namespace hp {

using Philox4 = std::array<std::uint32_t, 4>;

/// The Philox4x32-10 block cipher: counter and key to four random words.
Philox4 philox4x32(Philox4 counter, std::array<std::uint32_t, 2> key);

/// Uniform in [0, 1) with 53 bits, for draw `draw` at token position `position` of choice `choice`.
double uniform_at(std::uint64_t seed, std::uint64_t position, std::uint32_t choice, std::uint32_t draw = 0);

}  // namespace hp
