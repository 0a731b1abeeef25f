// The encoders of chat.cpp, one file per group of families. The conversation has passed chat.cpp's checks.
#pragma once

#include <vector>

#include "text/chat.h"

namespace hp {

std::vector<PromptPiece> render_chatml(const Conversation& conversation);
std::vector<PromptPiece> render_qwen3(const Conversation& conversation);
std::vector<PromptPiece> render_llama3(const Conversation& conversation);
std::vector<PromptPiece> render_deepseek_llm(const Conversation& conversation);
/// deepseek_v3, deepseek_r1, deepseek_r1_0528
std::vector<PromptPiece> render_deepseek_v3(ChatFamily family, const Conversation& conversation);
std::vector<PromptPiece> render_deepseek_v31(const Conversation& conversation);

}  // namespace hp
