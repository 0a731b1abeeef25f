// Operating errors as values: Result<T> is T or an Error. Programmer errors are HP_CHECK's (check.h).
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace hp {

/// What kind of failure, in terms a caller can act on. The message says the rest.
enum class ErrorCode {
  invalid_argument,    ///< the caller's input is wrong: HTTP 400, exit 2
  not_found,           ///< no such file, model, key
  corrupt_data,        ///< a file or a peer broke its own format
  unsupported,         ///< well-formed, but this build or machine cannot do it
  resource_exhausted,  ///< memory, disk, queue or descriptor limit
  deadline_exceeded,   ///< out of time
  cancelled,           ///< somebody asked for the stop
  unavailable,         ///< try again later or elsewhere
  io_error,            ///< the operating system said no
  internal,            ///< a broken invariant that we could contain
};

std::string_view to_string(ErrorCode code);

/// A message says what was expected, what was found, where, and what to do.
struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;
  std::string where = {};  ///< the field, parameter, tensor or path at fault; may be empty

  /// The same error with "prefix: " before its message, for adding the place where it happened.
  [[nodiscard]] Error with_context(std::string_view prefix) && {
    message = fmt::format("{}: {}", prefix, message);
    return std::move(*this);
  }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail(ErrorCode::not_found, "no tensor '{}' in {}", name, path);`
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{.code = code, .message = fmt::format(format, std::forward<Args>(args)...)});
}

[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace hp

#define HP_CONCAT_INNER(a, b) a##b
#define HP_CONCAT(a, b) HP_CONCAT_INNER(a, b)

/// `HP_TRY(auto file, open_file(path));` declares `file`, or returns the error to the caller.
#define HP_TRY(declaration, expression)                                                                  \
  auto HP_CONCAT(hp_try_, __LINE__) = (expression);                                                      \
  if (!HP_CONCAT(hp_try_, __LINE__)) return ::hp::fail(std::move(HP_CONCAT(hp_try_, __LINE__)).error()); \
  declaration = std::move(*HP_CONCAT(hp_try_, __LINE__))

/// `HP_TRY_VOID(write(...));` for a Status.
#define HP_TRY_VOID(expression) \
  if (auto hp_status = (expression); !hp_status) return ::hp::fail(std::move(hp_status).error())
