#include "ops/bundle/redact.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

#include "ops/notice/channel.h"
#include "ops/watch_options.h"

namespace hp::ops {
namespace {

constexpr std::string_view kGone = "[removed]";
constexpr std::size_t kShortestSecret = 6;  // shorter ones would make the text unreadable
constexpr std::size_t kMaxKeyFileBytes = 1 << 20;

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
}

bool equal_folded(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == y;
         });
}

/// Whether this name's value is a secret: "key", "api_key", "X-Auth-Token", "password".
bool names_secret(std::string_view name) {
  static constexpr std::array<std::string_view, 12> kEndings{"key",      "keys",       "token",         "secret",
                                                             "password", "passwd",     "authorization", "cookie",
                                                             "sign",     "credential", "signature",     "webhook"};
  return std::ranges::any_of(kEndings, [&](std::string_view ending) {
    if (name.size() < ending.size() || !equal_folded(name.substr(name.size() - ending.size()), ending)) return false;
    const std::size_t rest = name.size() - ending.size();
    return rest == 0 || !std::isalpha(static_cast<unsigned char>(name[rest - 1]));
  });
}

/// The end of the value that starts at `at`: of a quoted one its quote, else the next separator.
std::size_t value_end(std::string_view text, std::size_t at, char quote) {
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') return at;
    if (quote != 0) {
      if (c == '\\')
        ++at;
      else if (c == quote)
        return at;
    } else if (c == ' ' || c == ',' || c == ';' || c == '&' || c == '"' || c == '\'' || c == ')' || c == '}' ||
               c == '\r') {
      return at;
    }
  }
  return std::min(at, text.size());
}

/// At a word's end: name, optional quote, '=' or ':'; removes what comes after. Returns where to go on.
std::size_t remove_value(std::string_view text, std::size_t name_end, std::string& out) {
  std::size_t at = name_end;
  if (at < text.size() && (text[at] == '"' || text[at] == '\'')) ++at;
  while (at < text.size() && text[at] == ' ') ++at;
  if (at >= text.size() || (text[at] != '=' && text[at] != ':')) return name_end;
  ++at;
  while (at < text.size() && text[at] == ' ') ++at;
  // An authorization's scheme may stay.
  for (const std::string_view scheme : {"Bearer ", "Basic ", "bearer "})
    if (text.substr(at).starts_with(scheme)) at += scheme.size();
  char quote = at < text.size() && (text[at] == '"' || text[at] == '\'') ? text[at] : '\0';
  if (quote != 0) ++at;
  if (text.substr(at).starts_with("Bearer ")) at += 7;
  const std::size_t end = value_end(text, at, quote);
  if (end == at) return name_end;
  out.append(text.substr(name_end, at - name_end)).append(kGone);
  return end;
}

std::string without_named(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      out += text[at++];
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    const std::string_view word = text.substr(at, end - at);
    out += word.starts_with("sk-") && word.size() > 8 ? kGone : word;
    at = end;
    if (names_secret(word) || equal_folded(word, "bearer")) {
      if (equal_folded(word, "bearer") && at < text.size() && text[at] == ' ') {
        const std::size_t stop = value_end(text, at + 1, '\0');
        if (stop > at + 8) {
          out.append(" ").append(kGone);
          at = stop;
        }
        continue;
      }
      at = remove_value(text, at, out);
    }
  }
  return out;
}

/// redis://user:password@host
std::string without_url_passwords(std::string text) {
  for (std::size_t at = text.find("://"); at != std::string::npos; at = text.find("://", at + 3)) {
    const std::size_t end = std::min(text.find_first_of("/ \n\"'?,;", at + 3), text.size());
    const std::size_t sign = text.rfind('@', end);
    if (sign == std::string::npos || sign <= at + 3) continue;
    text.replace(at + 3, sign - at - 3, kGone);
  }
  return text;
}

std::vector<std::string> words_of_file(const std::string& path) {
  std::vector<std::string> out;
  std::ifstream file(path);
  std::size_t bytes = 0;
  for (std::string word; file >> word && (bytes += word.size()) < kMaxKeyFileBytes;) {
    std::erase_if(word, [](char c) { return c == '"' || c == '\'' || c == '[' || c == ']' || c == ','; });
    if (word.size() >= kShortestSecret && !word.starts_with('#') && word != "concurrent" &&
        word.find("_per_minute") == std::string::npos && word != "[tenant]" && word != "key_sha256" &&
        word != "viewer") {
      if (const auto sign = word.find('='); sign != std::string::npos) out.push_back(word.substr(sign + 1));
      out.push_back(std::move(word));
    }
  }
  return out;
}

std::string text_of_file(const std::string& path) {
  std::ifstream file(path);
  std::string text(kMaxKeyFileBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

/// What the channels know, env: and file: followed. An address may itself be the secret, or hold it in a long part.
std::vector<std::string> secrets_of_notices(const std::string& path) {
  constexpr std::size_t kLongPart = 16;
  const auto notices = load_notices(text_of_file(path), path);
  if (!notices) return words_of_file(path);
  std::vector<std::string> out;
  for (const Channel& channel : notices->channels) {
    out.push_back(channel.secret);
    out.push_back(channel.mail_server.password);
    std::string_view target = channel.url.target;
    out.push_back(std::string(target));
    while (!target.empty()) {
      const std::string_view part = target.substr(0, target.find_first_of("/?&="));
      target.remove_prefix(std::min(target.size(), part.size() + 1));
      if (part.size() >= kLongPart) out.emplace_back(part);
    }
  }
  return out;
}

/// What the file that this key names holds.
std::vector<std::string> secrets_of_file(std::string_view key, const std::string& path) {
  if (key.ends_with("notices_file")) return secrets_of_notices(path);
  if (key.ends_with("keys_file") || key.ends_with("tenants_file")) return words_of_file(path);
  if (!key.ends_with("password_file") && !key.ends_with("token_file")) return {};
  std::string text = text_of_file(path);
  return {text.substr(0, text.find_first_of("\r\n"))};
}

}  // namespace

std::string redacted(std::string_view text, std::span<const std::string> secrets) {
  std::string out(text);
  for (const std::string& secret : secrets) {
    if (secret.size() < kShortestSecret) continue;
    for (std::size_t at = out.find(secret); at != std::string::npos; at = out.find(secret, at + kGone.size()))
      out.replace(at, secret.size(), kGone);
  }
  return without_url_passwords(without_named(out));
}

std::string redacted_config(const Config& config) {
  static constexpr std::array<std::string_view, 4> kSources{"default", "file", "environment", "flag"};
  std::string out;
  const std::vector<std::string> secrets = secrets_of(config);
  for (const ConfigKey& key : config_keys()) {
    // The path of a file with secrets is none itself.
    const bool path = key.name.ends_with("_file");
    const std::string value = !path && names_secret(key.name) ? std::string(kGone) : config.shown(key.name);
    out += fmt::format("{} = {}  # {}\n", key.name, path ? value : redacted(value, secrets),
                       kSources[static_cast<std::size_t>(config.source(key.name))]);
  }
  return out;
}

std::vector<std::string> secrets_of(const Config& config) {
  std::vector<std::string> out;
  for (const ConfigKey& key : config_keys()) {
    if (key.type != ConfigType::text) continue;
    const std::string& value = config.text(key.name);
    if (!value.empty())
      for (std::string& secret : secrets_of_file(key.name, value)) out.push_back(std::move(secret));
    for (std::size_t at = value.find(";key="); at != std::string::npos; at = value.find(";key=", at + 5))
      out.push_back(value.substr(at + 5, value.find_first_of(",;", at + 5) - at - 5));
  }
  if (const std::string folder = ops_folder(config); !folder.empty())
    for (const std::string_view made : {"console.key", "console.secret"})
      out.push_back(text_of_file(fmt::format("{}/{}", folder, made)));
  std::erase_if(out, [](const std::string& secret) { return secret.size() < kShortestSecret; });
  std::ranges::sort(out, std::greater{}, &std::string::size);  // the longest first: one may contain another
  return out;
}

}  // namespace hp::ops
