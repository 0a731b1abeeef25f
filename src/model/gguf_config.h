// Reads a ModelConfig out of GGUF metadata. Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "base/result.h"
#include "model/gguf_set.h"
#include "model/model_config.h"

namespace hp {

/// The validated configuration; an error names the file and the key.
Result<ModelConfig> config_from_gguf(const GgufSet& set);

}  // namespace hp
