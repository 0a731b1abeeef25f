// Where a process stands, taken from outside before it is killed: its own account of its threads' stacks when it can
// still give one, a debugger's when it cannot and one is installed, and what the kernel says in any case.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

namespace hp::ops {

std::string process_stacks(pid_t process, std::chrono::milliseconds patience);

}  // namespace hp::ops
