#include "planner/tco.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace hp::planner {
namespace {

using F = InputField<TcoInputs>;
using T = TcoInputs;
constexpr double kHoursPerMonth = 8760.0 / 12;
constexpr double kMaxServers = 100000;

constexpr std::array<F, 30> kFields = {
    F{"years", &T::years, "years", 1, 10, {"time over which costs are added", "成本累计的年数"}},
    F{"requests_per_month", &T::requests_per_month, "requests", 0, 1e12, {"offered load", "每月请求数"}},
    F{"prompt_tokens", &T::prompt_tokens, "tokens", 1, 1e7, {"mean prompt length", "平均输入长度"}},
    F{"output_tokens", &T::output_tokens, "tokens", 1, 1e7, {"mean answer length", "平均输出长度"}},
    F{"prefix_hit_share",
      &T::prefix_hit_share,
      "",
      0,
      1,
      {"share of prompt tokens found in a cache", "输入词元的缓存命中率"}},
    F{"peak_to_mean", &T::peak_to_mean, "", 1, 1000, {"busiest hour over the average hour", "峰值小时与平均小时之比"}},
    F{"server_price", &T::server_price, "CNY", 0, 1e10, {"purchase price of one server", "单台服务器采购价"}},
    F{"server_requests_per_hour",
      &T::server_requests_per_hour,
      "requests",
      1e-3,
      1e12,
      {"what one server answers in an hour within its latency target (plan size computes it)",
       "单台服务器在延迟目标内每小时可处理的请求数（plan size 可算出）"}},
    F{"spare_servers",
      &T::spare_servers,
      "servers",
      0,
      1e4,
      {"servers above the peak need (N+1: 1)", "冗余服务器数（N+1 为 1）"}},
    F{"residual_share",
      &T::residual_share,
      "",
      0,
      1,
      {"resale value at the end, share of the price", "期末残值占采购价的比例"}},
    F{"server_idle_kw", &T::server_idle_kw, "kW", 0, 1e3, {"power of an idle server", "单台空闲功率"}},
    F{"server_busy_kw", &T::server_busy_kw, "kW", 0, 1e3, {"power of a busy server", "单台满载功率"}},
    F{"pue", &T::pue, "", 1, 5, {"power usage effectiveness of the room", "机房 PUE"}},
    F{"tariff_per_kwh", &T::tariff_per_kwh, "CNY", 0, 100, {"electricity price", "电价（每千瓦时）"}},
    F{"electricity_fixed_per_year",
      &T::electricity_fixed_per_year,
      "CNY",
      0,
      1e10,
      {"electricity given as an amount, added to the computed one", "按金额给出的年电费，与计算值相加"}},
    F{"rack_per_server_year",
      &T::rack_per_server_year,
      "CNY",
      0,
      1e8,
      {"rack space, per server and year", "每台每年机柜费用"}},
    F{"network_per_year", &T::network_per_year, "CNY", 0, 1e9, {"network, per year", "每年网络费用"}},
    F{"maintenance_share",
      &T::maintenance_share,
      "",
      0,
      1,
      {"maintenance per year, share of the price", "年维保费占采购价的比例"}},
    F{"staff_local", &T::staff_local, "people", 0, 1e4, {"people who run own machines", "本地部署运维人数"}},
    F{"staff_cost", &T::staff_cost, "CNY", 0, 1e8, {"cost of one person per year", "每人每年成本"}},
    F{"outage_hours_local",
      &T::outage_hours_local,
      "h",
      0,
      8760,
      {"hours per year without service, own machines", "本地部署每年中断小时数"}},
    F{"outage_loss_per_hour",
      &T::outage_loss_per_hour,
      "CNY",
      0,
      1e9,
      {"loss per hour without service", "每小时中断损失"}},
    F{"staff_cloud",
      &T::staff_cloud,
      "people",
      0,
      1e4,
      {"people who run the rented or hosted service", "使用云端时的运维人数"}},
    F{"outage_hours_cloud",
      &T::outage_hours_cloud,
      "h",
      0,
      8760,
      {"hours per year without service, rented or hosted", "云端每年中断小时数"}},
    F{"gpu_rent_per_server_hour",
      &T::gpu_rent_per_server_hour,
      "CNY",
      0,
      1e6,
      {"rent of an equal server, per hour", "租用同等服务器的每小时价格"}},
    F{"cloud_elastic_share",
      &T::cloud_elastic_share,
      "",
      0,
      1,
      {"share of the rent that elastic scaling saves", "弹性伸缩节省的租金比例"}},
    F{"api_miss_per_million",
      &T::api_miss_per_million,
      "CNY",
      0,
      1e6,
      {"API price, 10^6 prompt tokens, cache miss", "API 输入价（百万词元，未命中缓存）"}},
    F{"api_hit_per_million",
      &T::api_hit_per_million,
      "CNY",
      0,
      1e6,
      {"API price, 10^6 prompt tokens, cache hit", "API 输入价（百万词元，命中缓存）"}},
    F{"api_output_per_million",
      &T::api_output_per_million,
      "CNY",
      0,
      1e6,
      {"API price, 10^6 output tokens", "API 输出价（百万词元）"}},
    F{"discount_rate", &T::discount_rate, "", 0, 1, {"interest per year for present values", "折现率"}},
};

/// How many yearly amounts the time is worth today.
double present_years(const TcoInputs& in) {
  if (in.discount_rate == 0) return in.years;
  return (1 - std::pow(1 + in.discount_rate, -in.years)) / in.discount_rate;
}

double servers_for_peak(const TcoInputs& in) {
  const double peak_per_hour = in.requests_per_month / kHoursPerMonth * in.peak_to_mean;
  return std::max(1.0, std::ceil(peak_per_hour / in.server_requests_per_hour - 1e-9));
}

double api_cost_per_request(const TcoInputs& in) {
  const double input =
      in.prefix_hit_share * in.api_hit_per_million + (1 - in.prefix_hit_share) * in.api_miss_per_million;
  return (in.prompt_tokens * input + in.output_tokens * in.api_output_per_million) / 1e6;
}

CostLines local_costs(const TcoInputs& in, double servers, double utilization) {
  const double years = present_years(in), price = servers * in.server_price;
  const double kw = servers * (in.server_idle_kw + utilization * (in.server_busy_kw - in.server_idle_kw)) * in.pue;
  CostLines out;
  out.hardware = price * (1 - in.residual_share * std::pow(1 + in.discount_rate, -in.years));
  out.electricity = years * (kw * 8760 * in.tariff_per_kwh + in.electricity_fixed_per_year);
  out.rack_network = years * (servers * in.rack_per_server_year + in.network_per_year);
  out.maintenance = years * price * in.maintenance_share;
  out.staff = years * in.staff_local * in.staff_cost;
  out.outages = years * in.outage_hours_local * in.outage_loss_per_hour;
  return out;
}

double utilization_of(const TcoInputs& in, double servers) {
  return std::min(1.0, in.requests_per_month / kHoursPerMonth / (servers * in.server_requests_per_hour));
}

}  // namespace

std::span<const InputField<TcoInputs>> tco_fields() {
  return kFields;
}

Status validate(const TcoInputs& inputs) {
  HP_TRY_VOID(check_inputs(tco_fields(), inputs));
  if (inputs.server_busy_kw < inputs.server_idle_kw)
    return fail(ErrorCode::invalid_argument,
                "server_busy_kw: expected at least server_idle_kw = {}, found {}; the nearest that works is {}",
                inputs.server_idle_kw, inputs.server_busy_kw, inputs.server_idle_kw);
  if (const double servers = servers_for_peak(inputs); servers > kMaxServers)
    return fail(
        ErrorCode::invalid_argument,
        "requests_per_month: {:g} needs {:g} servers at server_requests_per_hour = {:g}, expected at most {:g}; "
        "the nearest that works is {:.0f}",
        inputs.requests_per_month, servers, inputs.server_requests_per_hour, kMaxServers,
        kMaxServers * inputs.server_requests_per_hour * kHoursPerMonth / inputs.peak_to_mean);
  return {};
}

TcoResult total_cost(const TcoInputs& in) {
  const double years = present_years(in), need = servers_for_peak(in);
  TcoResult out;
  out.servers = need + std::ceil(in.spare_servers);
  out.utilization = utilization_of(in, out.servers);
  out.local = local_costs(in, out.servers, out.utilization);
  out.rented.rent = years * 8760 * out.servers * in.gpu_rent_per_server_hour * (1 - in.cloud_elastic_share);
  out.rented.staff = out.api.staff = years * in.staff_cloud * in.staff_cost;
  out.rented.outages = out.api.outages = years * in.outage_hours_cloud * in.outage_loss_per_hour;
  out.api.tokens = years * 12 * in.requests_per_month * api_cost_per_request(in);
  const double requests = years * 12 * in.requests_per_month;
  out.api_per_request = api_cost_per_request(in);
  out.local_per_request = requests > 0 ? out.local.total() / requests : 0;
  out.break_even = break_even_requests(in);
  return out;
}

double local_minus_api(const TcoInputs& in) {
  const double servers = servers_for_peak(in) + std::ceil(in.spare_servers);
  const double years = present_years(in);
  const double api = years * (12 * in.requests_per_month * api_cost_per_request(in) + in.staff_cloud * in.staff_cost +
                              in.outage_hours_cloud * in.outage_loss_per_hour);
  return local_costs(in, servers, utilization_of(in, servers)).total() - api;
}

std::optional<double> break_even_requests(const TcoInputs& inputs) {
  // Within one number of servers the difference is linear in the load: both ends of each such stretch decide.
  TcoInputs in = inputs;
  const double per_server = in.server_requests_per_hour * kHoursPerMonth / in.peak_to_mean;
  for (double n = 1; n <= kMaxServers; n = n < 64 ? n + 1 : std::ceil(n * 1.05)) {
    const double low = n == 1 ? 0.0 : (n - 1) * per_server * (1 + 1e-6), high = n * per_server;
    in.requests_per_month = low;
    const double at_low = local_minus_api(in);
    if (at_low <= 0) return low;
    in.requests_per_month = high;
    const double at_high = local_minus_api(in);
    if (at_high <= 0) return low + (high - low) * at_low / (at_low - at_high);
  }
  return std::nullopt;
}

}  // namespace hp::planner
