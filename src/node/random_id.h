// Random numbers from the operating system, for seeds and ids that must differ between processes.
#pragma once

#include <cstdint>
#include <string>

namespace hp {

std::uint64_t random_u64();
/// 24 hexadecimal digits.
std::string random_id();

}  // namespace hp
