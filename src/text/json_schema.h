// Grammars for answers: any JSON object, the values of a JSON schema, tool calls in a family's own markup.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"
#include "text/chat.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace hp {

/// response_format json_object.
Result<std::shared_ptr<const Grammar>> json_object_grammar();

/// response_format json_schema. Every text of the grammar is JSON that the schema accepts, but for oneOf (taken as
/// anyOf) and formats beyond date, time, email, uuid and ipv4 (annotations). Properties come in the schema's order; a
/// schema that declares properties and says nothing of others allows no others. Errors are invalid_argument: a keyword
/// that is not supported, a schema that nothing finite satisfies, one that is too large.
Result<std::shared_ptr<const Grammar>> json_schema_grammar(std::string_view schema);

/// tool_choice required (all of `tools`) or named (one): one call, or with `parallel` one or more, and nothing else.
Result<std::shared_ptr<const Grammar>> tool_call_grammar(ToolSyntax syntax, std::span<const ChatTool> tools,
                                                         bool parallel, const Tokenizer& tokenizer);

/// The token behind which the grammar of an answer that opens in reasoning begins.
std::optional<TokenId> reasoning_end(const Tokenizer& tokenizer);

}  // namespace hp
