// The parameters that chat and plain completions share, checked, plus the field readers both parsers use.
// Owns ranges and messages; knows no model: context length and vocabulary are the node's to check.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace hp::api {

struct GenerationParams {
  float temperature = 1.0F, top_p = 1.0F, min_p = 0.0F;
  float repetition_penalty = 1.0F, frequency_penalty = 0.0F, presence_penalty = 0.0F;
  std::int32_t top_k = 0;  ///< 0: off
  std::int32_t n = 1;
  std::optional<std::int32_t> max_tokens;    ///< empty: the endpoint's default
  std::int32_t min_tokens = 0;               ///< no end-of-answer token before so many
  std::vector<std::int32_t> stop_token_ids;  ///< not yet checked against a vocabulary
  std::optional<std::uint64_t> seed;         ///< a negative seed keeps its bits
  std::vector<std::string> stop;
  std::vector<std::pair<std::int32_t, float>> logit_bias;  ///< token id, bias; each token once
  bool ignore_eos = false;
  bool stream = false, include_usage = false;
};

/// An invalid_argument error whose `where` is the parameter; becomes a 400 with "param".
tl::unexpected<Error> bad_parameter(std::string_view name, std::string message);

/// Parses `body`, which must be a JSON object.
Result<JsonValue> parse_object(std::string_view body);

/// Absent and null members read as empty.
Result<std::optional<double>> read_number(const JsonValue& body, std::string_view name, double low, double high);
Result<std::optional<std::int64_t>> read_integer(const JsonValue& body, std::string_view name, std::int64_t low,
                                                 std::int64_t high);
Result<std::optional<bool>> read_bool(const JsonValue& body, std::string_view name);

/// The required, non-empty string member "model".
Result<std::string> read_model(const JsonValue& body);

Result<GenerationParams> read_generation_params(const JsonValue& body);

}  // namespace hp::api
