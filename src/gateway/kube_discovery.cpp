#include "gateway/kube_discovery.h"

#include <atomic>
#include <mutex>

#include "base/log.h"
#include "gateway/retry_budget.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace hp::gateway {
namespace {

using std::chrono::milliseconds;
constexpr std::size_t kMaxListBytes = 64 << 20;
constexpr std::size_t kMaxEventBytes = 8 << 20;
constexpr std::chrono::seconds kWatchTime{240};  // the API ends a watch after so long; then it begins anew
constexpr milliseconds kListTimeout{10'000};
constexpr milliseconds kRetryMax{20'000};
constexpr milliseconds kRetryBase{250};

// One service. All on the loop; the discovery outlives the loop's last task.
class Follower {
 public:
  Follower(const KubeApi& api, KubeSource source, net::EventLoop& loop, net::HttpClient& client,
           std::function<void(std::vector<NodeConfig>)> publish)
      : api_(api), source_(std::move(source)), loop_(loop), client_(client), publish_(std::move(publish)) {}

  void list() {
    text_.clear();
    status_ = 0;
    auto request = this->request("");
    request.read_timeout = kListTimeout;
    request.max_body_bytes = kMaxListBytes;
    client_.start(std::move(request), {.on_headers = [this](int status, const net::Headers&) { status_ = status; },
                                       .on_data = [this](std::string_view bytes) { text_.append(bytes); },
                                       .on_done = [this](const Status& outcome) { on_list(outcome); }});
  }

 private:
  [[nodiscard]] net::ClientRequest request(std::string_view more) const {
    return api_.request(fmt::format(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}{}",
        source_.space, source_.service, more));
  }

  void on_list(const Status& outcome) {
    if (!outcome && outcome.error().code == ErrorCode::cancelled) return;
    if (!outcome) return again(outcome.error().message);
    if (status_ != 200) return again(fmt::format("it answered {}", status_));
    auto list = parse_slice_list(text_);
    if (!list) return again(list.error().message);
    version_ = list->version;
    slices_.replace(std::move(list->slices));
    publish_(slices_.nodes(source_));
    failures_ = 0;
    watch();
  }

  void watch() {
    text_.clear();
    status_ = 0;
    relist_ = false;
    auto request = this->request(fmt::format("&watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
                                             kWatchTime.count(), version_));
    request.read_timeout = kWatchTime + kListTimeout;
    request.max_body_bytes = std::size_t{1} << 40;
    handle_ =
        client_.start(std::move(request), {.on_headers = [this](int status, const net::Headers&) { status_ = status; },
                                           .on_data = [this](std::string_view bytes) { on_watch_data(bytes); },
                                           .on_done = [this](const Status& outcome) { on_watch_end(outcome); }});
  }

  void on_watch_data(std::string_view bytes) {
    if (status_ != 200 || relist_) return;
    text_.append(bytes);
    std::size_t begin = 0;
    for (auto end = text_.find('\n'); end != std::string::npos; end = text_.find('\n', begin)) {
      if (end > begin) on_event(std::string_view(text_).substr(begin, end - begin));
      begin = end + 1;
    }
    text_.erase(0, begin);
    if (text_.size() > kMaxEventBytes) relist_ = true;
    if (relist_) client_.cancel(handle_);
  }

  void on_event(std::string_view line) {
    const auto event = parse_watch_event(line);
    if (!event || event->kind == KubeEvent::Kind::too_old || event->kind == KubeEvent::Kind::error) {
      relist_ = true;
      return;
    }
    failures_ = 0;
    if (!event->version.empty()) version_ = event->version;
    if (event->kind == KubeEvent::Kind::bookmark) return;
    slices_.apply(*event);
    publish_(slices_.nodes(source_));
  }

  // The usual end is the API's own, after timeoutSeconds: on from the last version.
  void on_watch_end(const Status& outcome) {
    if (!outcome && outcome.error().code == ErrorCode::cancelled && !relist_) return;
    if (relist_ || status_ == 410) return after(kRetryBase, [this] { list(); });
    if (!outcome || status_ != 200)
      return again(outcome ? fmt::format("it answered {}", status_) : outcome.error().message);
    after(milliseconds(++quick_ends_ > 3 ? 1'000 : 0), [this] { watch(); });
    loop_.after(milliseconds(5'000), [this] { quick_ends_ = 0; });
  }

  void again(std::string_view why) {
    if (failures_++ == 0)
      log::warn("gateway: the Kubernetes API cannot be asked for {}/{} ({}); the nodes known so far stay",
                source_.space, source_.service, why);
    const auto pause = std::min(kRetryMax, kRetryBase * (1 << std::min(failures_, 7)));
    after(pause / 2 + backoff(hash_text(source_.service), failures_) % (pause / 2 + milliseconds(1)),
          [this] { list(); });
  }

  void after(milliseconds pause, std::function<void()> task) { loop_.after(pause, std::move(task)); }

  const KubeApi& api_;
  const KubeSource source_;
  net::EventLoop& loop_;
  net::HttpClient& client_;
  const std::function<void(std::vector<NodeConfig>)> publish_;
  KubeSlices slices_;
  std::string text_, version_;
  net::HttpClient::Handle handle_ = 0;
  int status_ = 0, failures_ = 0, quick_ends_ = 0;
  bool relist_ = false;
};

class Discovery final : public KubeDiscovery {
 public:
  explicit Discovery(KubeApi api)
      : api_(std::move(api)), loop_(net::EventLoop::create()), client_(net::HttpClient::create(*loop_)) {}
  ~Discovery() override {
    client_.reset();  // its last callbacks come here, on the loop
    loop_.reset();
  }
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

  void follow(std::vector<KubeSource> sources) {
    found_.resize(sources.size());
    for (std::size_t i = 0; i < sources.size(); ++i)
      followers_.push_back(
          std::make_unique<Follower>(api_, std::move(sources[i]), *loop_, *client_,
                                     [this, i](std::vector<NodeConfig> nodes) { publish(i, std::move(nodes)); }));
    loop_->post([this] {
      for (const auto& follower : followers_) follower->list();
    });
  }
  [[nodiscard]] std::uint64_t version() const override { return version_; }
  [[nodiscard]] std::vector<NodeConfig> nodes() const override {
    const std::lock_guard lock(mutex_);
    std::vector<NodeConfig> all;
    for (const auto& some : found_) all.insert(all.end(), some.begin(), some.end());
    return all;
  }

 private:
  void publish(std::size_t i, std::vector<NodeConfig> nodes) {
    const std::lock_guard lock(mutex_);
    if (found_[i] == nodes) return;
    found_[i] = std::move(nodes);
    ++version_;
  }

  const KubeApi api_;
  mutable std::mutex mutex_;
  std::vector<std::vector<NodeConfig>> found_;
  std::atomic<std::uint64_t> version_{0};
  std::unique_ptr<net::EventLoop> loop_;
  std::unique_ptr<net::HttpClient> client_;
  std::vector<std::unique_ptr<Follower>> followers_;
};

}  // namespace

Result<std::unique_ptr<KubeDiscovery>> KubeDiscovery::start(std::vector<KubeSource> sources,
                                                            const KubeOptions& options) {
  if (sources.empty()) return nullptr;
  HP_TRY(KubeApi api, KubeApi::open(options));
  auto discovery = std::make_unique<Discovery>(std::move(api));
  discovery->follow(std::move(sources));
  return std::unique_ptr<KubeDiscovery>(std::move(discovery));
}

}  // namespace hp::gateway
