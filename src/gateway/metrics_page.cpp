#include "gateway/metrics_page.h"

#include <deque>
#include <unordered_map>
#include <vector>

namespace hp::gateway {
namespace {

constexpr milliseconds kPatience{1'000};
constexpr std::size_t kMaxPageBytes = 8 << 20;

struct Family {
  std::string head, samples;
};

class Page {
 public:
  // `node`: empty for our own samples, which keep their labels.
  void add(std::string_view text, std::string_view node) {
    Family* family = nullptr;
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      if (line.empty()) continue;
      if (line.starts_with("# ")) {
        const auto name_at = line.find(' ', 2) + 1;
        const std::string_view name = line.substr(name_at, line.find(' ', name_at) - name_at);
        family = &of(name);
        if (line.starts_with("# HELP ") && !family->head.empty()) continue;
        if (line.starts_with("# TYPE ") && family->head.find("# TYPE ") != std::string::npos) continue;
        family->head.append(line).append("\n");
      } else if (family != nullptr) {
        add_sample(family->samples, line, node);
      }
    }
  }
  [[nodiscard]] std::string text() const {
    std::string out;
    for (const Family& family : families_) out.append(family.head).append(family.samples);
    return out;
  }

 private:
  Family& of(std::string_view name) {
    const auto [found, fresh] = by_name_.try_emplace(std::string(name), families_.size());
    if (fresh) families_.emplace_back();
    return families_[found->second];
  }
  static void add_sample(std::string& out, std::string_view line, std::string_view node) {
    if (node.empty()) {
      out.append(line).append("\n");
      return;
    }
    const auto end = line.find_first_of("{ ");
    const bool labels = end != std::string_view::npos && line[end] == '{';
    out.append(line.substr(0, end)).append("{node=\"").append(node).append(labels ? "\"," : "\"}");
    out.append(line.substr(labels ? end + 1 : end)).append("\n");
  }

  std::deque<Family> families_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

struct Scrape {
  std::vector<std::pair<std::string, std::string>> pages;
  std::size_t missing = 0;
  std::shared_ptr<net::ResponseWriter> writer;
  MetricsRegistry& registry;

  void finish() const {
    writer->send(
        {.headers = {}, .body = merge_metrics(registry.render(), pages), .content_type = "text/plain; version=0.0.4"});
  }
};

}  // namespace

std::string merge_metrics(std::string_view own, std::span<const std::pair<std::string, std::string>> nodes) {
  Page page;
  page.add(own, {});
  for (const auto& [name, text] : nodes) page.add(text, name);
  return page.text();
}

void answer_metrics(Shard& shard, std::shared_ptr<net::ResponseWriter> writer) {
  const auto scrape = std::make_shared<Scrape>(
      Scrape{.pages = {}, .missing = 0, .writer = std::move(writer), .registry = shard.core.registry});
  std::vector<NodeConfig> asked;
  for (const NodeStatus& node : shard.core.nodes.status())
    if (shard.core.options.merge_node_metrics && node.ready && !node.removed && node.config.homeport)
      asked.push_back(node.config);
  if (asked.empty()) return scrape->finish();
  scrape->missing = asked.size();
  for (const NodeConfig& node : asked) {
    const auto body = std::make_shared<std::string>();
    net::ClientRequest request{.host = node.host,
                               .port = node.port,
                               .tls = node.tls,
                               .authority = shard.core.options.authority,
                               .target = "/metrics",
                               .connect_timeout = kPatience,
                               .read_timeout = kPatience,
                               .max_body_bytes = kMaxPageBytes};
    shard.client->start(std::move(request), {.on_data = [body](std::string_view bytes) { body->append(bytes); },
                                             .on_done =
                                                 [scrape, body, name = node.name](const Status& outcome) {
                                                   if (outcome) scrape->pages.emplace_back(name, std::move(*body));
                                                   if (--scrape->missing == 0) scrape->finish();
                                                 }});
  }
}

}  // namespace hp::gateway
