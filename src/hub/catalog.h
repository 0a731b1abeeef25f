// Short names of models ("deepseek-r1:1.5b") and what they stand for on a hub.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp::hub {

struct CatalogEntry {
  std::string_view name;        ///< "deepseek-r1:7b"
  std::string_view repository;  ///< "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
  std::string_view pattern;     ///< of one GGUF among many; empty: the repository's safetensors
  std::string_view note;        ///< parameters and size, for people
};
std::span<const CatalogEntry> catalog();

/// What a person asked for.
struct ModelName {
  std::string repository;  ///< "org/name"
  std::string pattern;     ///< "Q4_K_M" or "*.gguf"; empty: what the repository suggests
};

/// "deepseek-r1:1.5b", "org/name", "org/name:PATTERN". An unknown short name lists those that come close.
Result<ModelName> parse_model_name(std::string_view text);

/// '*' and '?' over a whole path; a pattern without either is a part of a .gguf file's name, in any case.
bool matches(std::string_view pattern, std::string_view path);

}  // namespace hp::hub
