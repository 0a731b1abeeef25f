// Everything a tokenizer file says, in one plain struct, whatever format it came from (GGUF metadata or
// tokenizer.json).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"

namespace hp {

enum class TokenizerKind { byte_bpe, sentencepiece_bpe };

/// Which split pattern cuts text before BPE. Names follow GGUF's tokenizer.ggml.pre.
enum class PreTokenizer { none, smollm, gpt2, llama3, qwen2, deepseek_llm, deepseek_coder, deepseek_v3 };

enum class TokenType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// From GGUF: tokens, types, scores, merges, add_bos and the ids are tokenizer.ggml.{tokens, token_type, scores,
/// merges, add_bos_token, *_token_id}; pre is tokenizer.ggml.pre ("smollm", "gpt-2", "llama-bpe", "qwen2",
/// "deepseek-v3", …); kind is byte_bpe for model "gpt2". A missing types array means all normal: fill it, its length
/// must be the vocabulary's. ignore_merges is true for llama-bpe. Ids that the file leaves out stay empty.
struct TokenizerSource {
  TokenizerKind kind = TokenizerKind::byte_bpe;
  PreTokenizer pre = PreTokenizer::none;
  std::vector<std::string> tokens;  ///< by id; byte-level BPE tokens in GPT-2's printable alphabet, as in the file
  std::vector<TokenType> types;     ///< by id
  std::vector<float> scores;        ///< by id, SentencePiece only; not needed with merges
  std::vector<std::string> merges;  ///< "left right", in rank order; byte-level BPE, or SentencePiece from a JSON file
  std::optional<TokenId> bos, eos, unk, pad;
  std::vector<TokenId>
      end_of_generation;  ///< eos and every other token that ends an answer (<|im_end|>, <|eot_id|>, …)
  bool add_bos = false;
  bool add_space_prefix = false;  ///< SentencePiece
  bool nfc = false;               ///< Qwen: text is normalized first
  bool ignore_merges = false;     ///< Llama 3: a word that is a token is taken whole
  std::string chat_template;      ///< Jinja text as found, used to recognize the family; may be empty
};

}  // namespace hp
