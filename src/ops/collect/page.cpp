#include "ops/collect/page.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "ops/collect/prom_text.h"

namespace hp::ops {
namespace {

constexpr std::array<std::string_view, 4> kFollowed{
    "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
    "homeport_gateway_time_to_first_token_seconds", "homeport_gateway_event_gap_seconds"};

constexpr double kMebibyte = 1024 * 1024;

struct GpuField {
  std::string_view name;
  Figure GpuView::*member;
  double scale = 1;
};
// dcgm-exporter counts memory in MiB and knows no total: FB_USED + FB_FREE + FB_RESERVED.
constexpr std::array<GpuField, 16> kGpuFields{{
    {"homeport_gpu_temperature_celsius", &GpuView::temperature_c},
    {"homeport_gpu_memory_used_bytes", &GpuView::memory_used_bytes},
    {"homeport_gpu_memory_total_bytes", &GpuView::memory_total_bytes},
    {"homeport_gpu_power_watts", &GpuView::power_w},
    {"homeport_gpu_power_limit_watts", &GpuView::power_limit_w},
    {"homeport_gpu_clock_mhz", &GpuView::clock_mhz},
    {"homeport_gpu_memory_clock_mhz", &GpuView::memory_clock_mhz},
    {"homeport_gpu_utilization_ratio", &GpuView::utilization},
    {"homeport_gpu_ecc_errors_total", &GpuView::ecc_errors},
    {"homeport_gpu_xid_errors_total", &GpuView::xid_errors},
    {"DCGM_FI_DEV_GPU_TEMP", &GpuView::temperature_c},
    {"DCGM_FI_DEV_POWER_USAGE", &GpuView::power_w},
    {"DCGM_FI_DEV_SM_CLOCK", &GpuView::clock_mhz},
    {"DCGM_FI_DEV_MEM_CLOCK", &GpuView::memory_clock_mhz},
    {"DCGM_FI_DEV_GPU_UTIL", &GpuView::utilization, 0.01},
    {"DCGM_EXP_XID_ERRORS_COUNT", &GpuView::xid_errors},
}};

GpuView& gpu_of(Page& page, std::string_view labels) {
  const std::string text = prom_label(labels, "gpu").value_or("0");
  int index = 0;
  std::from_chars(text.data(), text.data() + text.size(), index);
  auto found = std::ranges::find(page.gpus, index, &GpuView::index);
  if (found == page.gpus.end()) {
    GpuView& fresh = page.gpus.emplace_back();
    fresh.index = index;
    found = page.gpus.end() - 1;
    const auto name = prom_label(labels, "name");
    found->name = name ? *name : prom_label(labels, "modelName").value_or("");
    const auto uuid = prom_label(labels, "uuid");
    found->uuid = uuid ? *uuid : prom_label(labels, "UUID").value_or("");
  }
  return *found;
}

void add_to(Figure& figure, double v) {
  figure = figure.value_or(0) + v;
}

bool take_gpu(Page& page, const PromSample& s) {
  if (!s.name.starts_with("homeport_gpu_") && !s.name.starts_with("DCGM_")) return false;
  GpuView& gpu = gpu_of(page, s.labels);
  if (s.name == "DCGM_FI_DEV_FB_USED") add_to(gpu.memory_used_bytes, s.value * kMebibyte);
  if (s.name.starts_with("DCGM_FI_DEV_FB_")) add_to(gpu.memory_total_bytes, s.value * kMebibyte);
  if (s.name == "homeport_gpu_throttled" && s.value > 0) {
    gpu.throttled = true;
    const std::string reason = prom_label(s.labels, "reason").value_or("");
    gpu.throttle_reasons += (gpu.throttle_reasons.empty() ? "" : ", ") + reason;
  }
  for (const GpuField& field : kGpuFields)
    if (field.name == s.name) gpu.*field.member = s.value * field.scale;
  return true;
}

void take_bucket(Page& page, const PromSample& s) {
  const std::string_view base = s.name.substr(0, s.name.size() - std::string_view("_bucket").size());
  if (std::ranges::find(kFollowed, base) == kFollowed.end()) return;
  const auto bound_text = prom_label(s.labels, "le");
  if (!bound_text) return;
  PageHistogram& h = page.histograms[std::string(base)];
  double bound = INFINITY;
  if (*bound_text != "+Inf") {
    const auto [end, error] = std::from_chars(bound_text->data(), bound_text->data() + bound_text->size(), bound);
    if (error != std::errc()) return;
  }
  const auto at = std::lower_bound(h.bounds.begin(), h.bounds.end(), bound);
  const auto index = at - h.bounds.begin();
  if (at == h.bounds.end() || *at != bound) {
    h.bounds.insert(at, bound);
    h.cumulative.insert(h.cumulative.begin() + index, 0);
  }
  h.cumulative[static_cast<std::size_t>(index)] += s.value;
}

void take_tenant(Page& page, const PromSample& s) {
  static constexpr std::array<std::pair<std::string_view, double TenantView::*>, 6> kFields{{
      {"homeport_tenant_requests_total", &TenantView::requests},
      {"homeport_tenant_prompt_tokens_total", &TenantView::prompt_tokens},
      {"homeport_tenant_completion_tokens_total", &TenantView::completion_tokens},
      {"homeport_tenant_refusals_total", &TenantView::refusals},
      {"homeport_tenant_timeouts_total", &TenantView::timeouts},
      {"homeport_gateway_limited_total", &TenantView::limited},
  }};
  for (const auto& [name, member] : kFields) {
    if (name != s.name) continue;
    const std::string tenant = prom_label(s.labels, "tenant").value_or("");
    TenantView& view = page.tenants[tenant];
    view.name = tenant;
    view.*member += s.value;
  }
}

/// +Inf is a bound of its own in the text, and no bound afterwards.
void end_histograms(Page& page) {
  for (auto it = page.histograms.begin(); it != page.histograms.end();) {
    PageHistogram& h = it->second;
    const bool whole = !h.bounds.empty() && std::isinf(h.bounds.back());
    if (whole) h.bounds.pop_back();
    it = whole ? std::next(it) : page.histograms.erase(it);
  }
}

}  // namespace

std::optional<double> Page::total(std::string_view name) const {
  const auto found = totals.find(std::string(name));
  return found == totals.end() ? std::nullopt : std::optional(found->second);
}

Page read_page(std::string_view text) {
  Page page;
  page.strange_lines = parse_prom_text(text, [&page](const PromSample& s) {
    if (s.name.ends_with("_bucket")) return take_bucket(page, s);
    if (take_gpu(page, s)) return;
    page.totals[std::string(s.name)] += s.value;
    if (s.name == "homeport_build_info") {
      page.device = prom_label(s.labels, "device").value_or("");
      page.weights = prom_label(s.labels, "weights").value_or("");
    } else if (s.name == "vllm:num_requests_running" && page.model.empty()) {
      page.model = prom_label(s.labels, "model_name").value_or("");
    } else if (s.name.starts_with("homeport_tenant_") || s.name == "homeport_gateway_limited_total") {
      take_tenant(page, s);
    }
  });
  end_histograms(page);
  return page;
}

}  // namespace hp::ops
