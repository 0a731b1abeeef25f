// Unicode normalization form C, which Qwen's tokenizers apply before anything else. Source: UAX #15; tables of Unicode
// 14 (generated). Only NFC: no compatibility forms.
#pragma once

#include <string>
#include <string_view>

namespace hp {

/// False means that `text` is in NFC already; true that it has to be looked at closely (it may still be unchanged).
bool may_change_in_nfc(std::string_view text);
/// `text` in NFC. Bytes that are no valid UTF-8 stay as they are and separate what stands around them.
std::string to_nfc(std::string_view text);

}  // namespace hp
