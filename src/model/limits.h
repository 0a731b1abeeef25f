// Named limits of what a model file may claim. Generous for every published model; a file beyond them is refused, not
// tried.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp::limits {

inline constexpr std::uint64_t kMaxTensors = 200'000;
inline constexpr std::uint64_t kMaxMetadataKeys = 100'000;
inline constexpr std::uint64_t kMaxArrayElements = 8'000'000;
inline constexpr std::uint64_t kMaxStringBytes = 64 << 20;
inline constexpr std::uint64_t kMaxAlignment = 1 << 20;
inline constexpr std::int64_t kMaxDimension = std::int64_t{1} << 32;
inline constexpr std::int32_t kMaxLayers = 1024;
inline constexpr std::int32_t kMaxExperts = 65536;
inline constexpr std::int32_t kMaxExpertGroups = 64;
inline constexpr std::int32_t kMaxExpertsPerToken = 256;
inline constexpr std::int32_t kMaxHidden = 1 << 18;
inline constexpr std::int32_t kMaxVocab = 1 << 22;
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  ///< the format's own limit
inline constexpr std::size_t kMaxConfigBytes = 4 << 20;              ///< config.json
inline constexpr std::size_t kMaxShards = 4096;

}  // namespace hp::limits
