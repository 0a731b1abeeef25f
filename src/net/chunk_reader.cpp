#include "net/chunk_reader.h"

#include <algorithm>
#include <charconv>

#include "net/limits.h"

namespace hp::net {

Result<std::uint64_t> parse_length(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty())
    return fail(ErrorCode::corrupt_data, "expected a length, found '{}'", text.substr(0, 32));
  return value;
}

Result<bool> ChunkReader::take_line(std::string_view& bytes) {
  const auto end = bytes.find('\n');
  const bool complete = end != std::string_view::npos;
  line_.append(bytes.substr(0, std::min(end, kMaxChunkLineBytes + 1)));
  bytes.remove_prefix(complete ? end + 1 : bytes.size());
  if (line_.size() > kMaxChunkLineBytes) return fail(ErrorCode::corrupt_data, "a chunk's size line is too long");
  if (!complete) return false;
  if (line_.empty() || line_.back() != '\r') return fail(ErrorCode::corrupt_data, "a line ends without CR LF");
  line_.pop_back();
  return true;
}

Status ChunkReader::on_line() {
  switch (state_) {
    case State::size: {
      std::string_view size = std::string_view(line_).substr(0, line_.find(';'));
      while (!size.empty() && (size.back() == ' ' || size.back() == '\t')) size.remove_suffix(1);
      HP_TRY(left_, parse_length(size, 16));
      state_ = left_ == 0 ? State::trailer : State::data;
      break;
    }
    case State::data_end:
      if (!line_.empty()) return fail(ErrorCode::corrupt_data, "a chunk is longer than its size says");
      state_ = State::size;
      break;
    case State::trailer:
      if (line_.empty())
        state_ = State::done;
      else
        has_trailers_ = true;
      break;
    case State::data:
    case State::done:
      break;
  }
  line_.clear();
  return {};
}

Status ChunkReader::push(std::string_view& bytes, const std::function<bool(std::string_view)>& on_data) {
  while (!bytes.empty() && state_ != State::done) {
    if (state_ == State::data) {
      const std::string_view piece =
          bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size())));
      bytes.remove_prefix(piece.size());
      left_ -= piece.size();
      if (left_ == 0) state_ = State::data_end;
      if (!on_data(piece)) return {};
      continue;
    }
    HP_TRY(const bool complete, take_line(bytes));
    if (!complete) return {};
    HP_TRY_VOID(on_line());
  }
  return {};
}

}  // namespace hp::net
