// Ranks that are threads of this process: they read each other's memory. Destroying one that others may still wait for
// breaks their group, so that a thread that ends early leaves nobody behind.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace hp {

/// Long enough for any step of a CPU, short enough that nobody takes a dead rank for a slow one.
inline constexpr std::chrono::milliseconds kRankLimit{60'000};

/// One communicator per rank, in rank order, each for one thread at a time. `limit`: how long a rank waits for others.
std::vector<std::unique_ptr<Communicator>> local_ranks(int world, std::chrono::milliseconds limit = kRankLimit);

}  // namespace hp
