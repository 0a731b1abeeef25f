// `serve --nodes N`: a gateway in this process over N nodes of the same program on Unix sockets.
#pragma once

#include "cli/command.h"

namespace hp::cli {

Result<int> serve_fleet(const Invocation& in);

}  // namespace hp::cli
