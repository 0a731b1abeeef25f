// What remains readable of a process that hangs or was stopped: its last log lines and, when it can still take a
// signal, the stacks of all its threads. Both lie in memory that another process of the same user reads through /proc;
// no file, no thread and no cost but a copy per log line.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp::black_box {

/// Once, in main. Without it everything else does nothing or says not_found.
Status open();
void append(std::string_view line);

/// The last log lines of a process with a black box, oldest first.
Result<std::string> read_log(pid_t process);
/// Every thread's stack, written by the process itself. A stopped process does not answer: deadline_exceeded.
Result<std::string> ask_stacks(pid_t process, std::chrono::milliseconds patience);
/// Processes with a black box that we may look into, ours included.
std::vector<pid_t> processes();

}  // namespace hp::black_box
