// What three ways to run the same load cost over some years: own machines, rented GPUs, a hosted API per token. Pure
// functions of TcoInputs; amounts are in the inputs' currency (CNY unless the user says otherwise).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "planner/document.h"
#include "planner/inputs.h"

namespace hp::planner {

struct TcoInputs {
  double years = 3;
  // the load
  double requests_per_month = 3e6, prompt_tokens = 1000, output_tokens = 300, prefix_hit_share = 0.3;
  double peak_to_mean = 3;  ///< busiest hour over the average
  // own machines
  double server_price = 1.8e6, server_requests_per_hour = 20000, spare_servers = 1, residual_share = 0;
  double server_idle_kw = 1.5, server_busy_kw = 6, pue = 1.4, tariff_per_kwh = 0.8;
  double electricity_fixed_per_year = 0, rack_per_server_year = 30000, network_per_year = 60000;
  double maintenance_share = 0.03;  ///< of the purchase price, each year
  double staff_local = 1.5, staff_cost = 240000;
  double outage_hours_local = 15, outage_loss_per_hour = 10000;
  // somebody else's
  double staff_cloud = 1, outage_hours_cloud = 120;
  double gpu_rent_per_server_hour = 120, cloud_elastic_share = 0;
  double api_miss_per_million = 2, api_hit_per_million = 0.2, api_output_per_million = 3;
  double discount_rate = 0;
};

std::span<const InputField<TcoInputs>> tco_fields();
Status validate(const TcoInputs& inputs);

/// Over the whole time; a cost that an option does not have is 0.
struct CostLines {
  double hardware = 0, electricity = 0, rack_network = 0, maintenance = 0, staff = 0, outages = 0, rent = 0, tokens = 0;
  [[nodiscard]] double total() const {
    return hardware + electricity + rack_network + maintenance + staff + outages + rent + tokens;
  }
};

struct TcoResult {
  CostLines local, rented, api;
  double servers = 0;      ///< bought, spare ones included
  double utilization = 0;  ///< average share of the bought capacity that works
  double api_per_request = 0, local_per_request = 0;
  std::optional<double> break_even;  ///< the smallest monthly requests at which own machines cost no more than the API
                                     ///< (just above, one more server may turn it)
};

/// Inputs must be valid.
TcoResult total_cost(const TcoInputs& inputs);
/// Own machines minus API, over the whole time: below 0 own machines are cheaper.
double local_minus_api(const TcoInputs& inputs);
std::optional<double> break_even_requests(const TcoInputs& inputs);

struct Sensitivity {
  const InputField<TcoInputs>* field = nullptr;
  double value = 0;
  double change_low = 0, change_high = 0;  ///< of local_minus_api when the input goes to 80 % and 120 %
  std::optional<double> flips_at;          ///< the nearest value at which the cheaper side changes
};

/// Every input, the most influential first.
std::vector<Sensitivity> sensitivities(const TcoInputs& inputs);

/// The table as published: amounts in 10,000 CNY over 3 years. Its inputs are all that the source gives.
struct PublishedTco {
  struct Line {
    Phrase item;
    std::string_view key;
    std::optional<double> cloud, local;
  };
  std::vector<Line> lines;
  double cloud_total = 0, local_total = 0;
};
PublishedTco published_tco();

struct Money {
  std::string code = "CNY";
  double per_cny = 1;  ///< units of this currency for one CNY; only for showing
};

Answer answer_published_tco(Language language);
Answer answer_tco(const TcoInputs& inputs, const Money& money, Language language);

}  // namespace hp::planner
