// From the wire's chat request to the text room's conversation.
#pragma once

#include "api/chat_request.h"
#include "base/result.h"
#include "text/chat.h"

namespace hp {

Conversation conversation_of(const api::ChatRequest& request);

}  // namespace hp
