// Whether an executor can serve a request at all: pure checks before it enters the queue.
#pragma once

#include "arch/executor.h"
#include "base/result.h"
#include "engine/request.h"

namespace hp {

/// invalid_argument: the request breaks a rule; resource_exhausted: it needs more KV than the whole pool has.
Status validate_request(const EngineRequest& r, const ExecutorInfo& info);

}  // namespace hp
