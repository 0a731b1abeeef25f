// Products of weights of 4 and 8 bits against sums in double over the codes and scales that were given, every tile
// shape bit for bit; how rows are placed and rounded on the device, read back through int_layout.h.
#include "gpu_test_support.cuh"

using namespace hp::cuda;

namespace {

/// Rows of codes with a scale per group, as a checkpoint holds them.
struct IntRows {
  IntForm form;
  int n, k;
  std::vector<int> codes;
  std::vector<float> scales;

  [[nodiscard]] int groups() const { return (k + form.group - 1) / form.group; }
  [[nodiscard]] double weight(int row, int column) const {
    return double(codes[static_cast<std::size_t>(row) * k + column]) *
           scales[static_cast<std::size_t>(row) * groups() + column / form.group];
  }
  [[nodiscard]] std::vector<std::uint8_t> packed() const {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(n) * int_row_bytes(form.bits, k));
    for (std::size_t i = 0; i < codes.size(); ++i) {
      if (form.bits == 8)
        out[i] = static_cast<std::uint8_t>(codes[i]);
      else
        out[i / 2] = static_cast<std::uint8_t>(out[i / 2] | (codes[i] + 8) << (i % 2 * 4));
    }
    return out;
  }
};

IntRows random_rows(IntForm form, int n, int k, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> spread(0.5F, 1.5F);
  IntRows out{form, n, k, {}, {}};
  const int levels = 1 << form.bits;
  for (int i = 0; i < n * k; ++i) out.codes.push_back(static_cast<int>(random() % levels) - levels / 2);
  for (int i = 0; i < n * out.groups(); ++i) out.scales.push_back(spread(random) / static_cast<float>(levels));
  return out;
}

Matrix new_matrix(IntForm form, int n, int k) {
  Matrix w;
  w.ints = form, w.n = n, w.k = k;
  w.data = device<std::uint8_t>(w.bytes());
  return w;
}

void place(const IntRows& rows, Matrix& w, int first, RowPlace where) {
  const auto bytes = rows.packed();
  auto* codes = device<std::uint8_t>(bytes.size());
  auto* scales = device<float>(rows.scales.size());
  cudaMemcpy(codes, bytes.data(), bytes.size(), cudaMemcpyHostToDevice);
  cudaMemcpy(scales, rows.scales.data(), rows.scales.size() * 4, cudaMemcpyHostToDevice);
  place_int_weight(codes, scales, rows.n, w, first, where, nullptr);
  cudaDeviceSynchronize();
  cudaFree(codes), cudaFree(scales);
}

struct Rows {
  Activations x;
  std::vector<float> values;  // of the first t
};
Rows random_input(int t, int k, unsigned seed) {
  Rows out;
  out.x.rows = (t + 127) / 128 * 128, out.x.k = k;
  const std::size_t count = static_cast<std::size_t>(out.x.rows) * k;
  auto* data = device<Bf16>(count);
  random_bf16(data, count, 1.0F, seed, nullptr);
  out.x.data = data;
  expect(make_maps(out.x), "maps of [%d, %d]", out.x.rows, k);
  for (const Bf16 v : host(data, static_cast<std::size_t>(t) * k)) out.values.push_back(value(v));
  return out;
}

double dot(const IntRows& w, int row, const float* x) {
  double sum = 0;
  for (int c = 0; c < w.k; ++c) sum += w.weight(row, c) * x[c];
  return sum;
}

/// Every tile shape: the reference's numbers, and the first shape's bits.
void test_product(IntForm form, int n, int k, int t) {
  const IntRows rows = random_rows(form, n, k, 7);
  Matrix w = new_matrix(form, n, k);
  place(rows, w, 0, RowPlace::plain);
  const Rows in = random_input(t, k, 9);
  std::vector<double> reference;
  for (int i = 0; i < t; ++i)
    for (int r = 0; r < n; ++r) reference.push_back(dot(rows, r, in.values.data() + static_cast<std::size_t>(i) * k));
  auto* out = device<float>(static_cast<std::size_t>(t) * n);
  std::vector<float> first;
  for (int tile = 0; tile < kTileChoices; ++tile) {
    cudaMemset(out, 0xFF, static_cast<std::size_t>(t) * n * 4);
    matmul(w, in.x, t, {Epilogue::f32, out, n, nullptr}, nullptr, tile);
    const auto result = host(out, static_cast<std::size_t>(t) * n);
    const double error = relative_error(result, reference);
    expect(error < 1e-5, "int%d groups of %d, n=%d k=%d t=%d tile %d: error %.2e", form.bits, form.group, n, k, t, tile,
           error);
    if (tile == 0) first = result;
    expect(same(first, result), "int%d groups of %d, n=%d k=%d t=%d: tile %d has other bits than tile 0", form.bits,
           form.group, n, k, t, tile);
  }
  cudaFree(out), cudaFree(w.data), cudaFree(in.x.data);
}

/// Gate and up rows interleaved, a bias, sums onto what is there.
void test_epilogues(IntForm form, int ffn, int k, int t) {
  const IntRows gate = random_rows(form, ffn, k, 3), up = random_rows(form, ffn, k, 4);
  Matrix both = new_matrix(form, 2 * ffn, k), plain = new_matrix(form, ffn, k);
  place(gate, both, 0, RowPlace::gate), place(up, both, 0, RowPlace::up), place(gate, plain, 0, RowPlace::plain);
  const Rows in = random_input(t, k, 5);
  std::vector<float> bias(ffn), old(static_cast<std::size_t>(t) * ffn);
  for (int i = 0; i < ffn; ++i) bias[i] = 0.01F * static_cast<float>(i % 31);
  for (std::size_t i = 0; i < old.size(); ++i) old[i] = 0.1F * static_cast<float>(i % 17);
  auto* bias_at = device<float>(bias.size());
  auto* sums = device<float>(old.size());
  auto* halves = device<Bf16>(old.size());
  cudaMemcpy(bias_at, bias.data(), bias.size() * 4, cudaMemcpyHostToDevice);
  std::vector<double> gates, ups;
  for (int i = 0; i < t; ++i)
    for (int r = 0; r < ffn; ++r) {
      gates.push_back(dot(gate, r, in.values.data() + static_cast<std::size_t>(i) * k));
      ups.push_back(dot(up, r, in.values.data() + static_cast<std::size_t>(i) * k));
    }
  for (int tile = 0; tile < kTileChoices; ++tile) {
    const auto check = [&](const char* what, const std::vector<float>& got, auto wanted, double tolerance) {
      std::vector<double> reference;
      for (std::size_t i = 0; i < gates.size(); ++i) reference.push_back(wanted(i));
      const double error = relative_error(got, reference);
      expect(error < tolerance, "int%d %s k=%d t=%d tile %d: error %.2e", form.bits, what, k, t, tile, error);
    };
    const auto wide = [&] {
      std::vector<float> out;
      for (const Bf16 v : host(halves, old.size())) out.push_back(value(v));
      return out;
    };
    cudaMemcpy(sums, old.data(), old.size() * 4, cudaMemcpyHostToDevice);
    matmul(plain, in.x, t, {Epilogue::add_f32, sums, ffn, nullptr}, nullptr, tile);
    check(
        "added", host(sums, old.size()), [&](std::size_t i) { return gates[i] + old[i]; }, 1e-5);
    matmul(plain, in.x, t, {Epilogue::bf16, halves, ffn, bias_at}, nullptr, tile);
    check(
        "bf16 with bias", wide(), [&](std::size_t i) { return gates[i] + bias[i % ffn]; }, 3e-3);
    matmul(both, in.x, t, {Epilogue::swiglu, halves, ffn, nullptr}, nullptr, tile);
    check(
        "swiglu", wide(), [&](std::size_t i) { return gates[i] / (1 + std::exp(-gates[i])) * ups[i]; }, 3e-3);
  }
  for (void* p : {static_cast<void*>(bias_at), static_cast<void*>(sums), static_cast<void*>(halves), both.data,
                  plain.data, in.x.data})
    cudaFree(p);
}

/// Experts: each group's rows by its own matrix; by token, groups of one row whose input is their token's.
void test_grouped(IntForm form, int experts, int n, int k) {
  const IntRows rows = random_rows(form, experts * n, k, 13);
  Matrix w = new_matrix(form, experts * n, k);
  place(rows, w, 0, RowPlace::plain);
  constexpr int kRows = 200;
  const Rows in = random_input(kRows, k, 14);
  auto* out = device<float>(static_cast<std::size_t>(kRows) * n);
  for (int tile = 0; tile < kTileChoices; ++tile) {
    for (const bool by_token : {false, true}) {
      std::vector<int4> list;
      std::mt19937 random(15);
      for (int at = 0; at < kRows;) {
        const int count = by_token ? 1 : 1 + static_cast<int>(random() % static_cast<unsigned>(tile_columns(tile)));
        const int end = std::min(kRows, at + count);
        list.push_back(make_int4(static_cast<int>(random() % static_cast<unsigned>(experts)), at, end, at / 6));
        at = end;
      }
      auto* groups = device<int4>(list.size());
      auto* count = device<int>(1);
      const int size = static_cast<int>(list.size());
      cudaMemcpy(groups, list.data(), list.size() * sizeof(int4), cudaMemcpyHostToDevice);
      cudaMemcpy(count, &size, 4, cudaMemcpyHostToDevice);
      cudaMemset(out, 0xFF, static_cast<std::size_t>(kRows) * n * 4);
      grouped_matmul(w, in.x, {n, groups, count, size + 3, by_token}, {Epilogue::f32, out, n, nullptr}, nullptr, tile);
      std::vector<double> reference;
      for (const int4& g : list)
        for (int row = g.y; row < g.z; ++row)
          for (int r = 0; r < n; ++r)
            reference.push_back(
                dot(rows, g.x * n + r, in.values.data() + static_cast<std::size_t>(by_token ? g.w : row) * k));
      const double error = relative_error(host(out, reference.size()), reference);
      expect(error < 1e-5, "int%d experts n=%d k=%d tile %d by token %d: error %.2e", form.bits, n, k, tile, by_token,
             error);
      cudaFree(groups), cudaFree(count);
    }
  }
  cudaFree(out), cudaFree(w.data), cudaFree(in.x.data);
}

/// Rounding on the device: codes nearest, scales no worse than the host's choice among the same candidates.
void test_rounding(IntForm form, int n, int k) {
  auto* source = device<Bf16>(static_cast<std::size_t>(n) * k);
  random_bf16(source, static_cast<std::size_t>(n) * k, 0.1F, 17, nullptr);
  const auto values = host(source, static_cast<std::size_t>(n) * k);
  Matrix w = new_matrix(form, n, k);
  place_weight(source, n, w, 0, RowPlace::plain, nullptr);
  const auto memory = host(static_cast<std::uint8_t*>(w.data), w.bytes());
  const auto error_of = [&](int row, int group, float scale, const std::function<int(int)>& code) {
    double sum = 0;
    for (int c = group; c < std::min(k, group + form.group); ++c) {
      const double e = double(code(c)) * scale - value(values[static_cast<std::size_t>(row) * k + c]);
      sum += e * e;
    }
    return sum;
  };
  const int low = form.bits == 4 ? -8 : -127, high = form.bits == 4 ? 7 : 127;
  int worse = 0, far = 0;
  for (int r = 0; r < n; ++r)
    for (int g = 0; g < k; g += form.group) {
      const std::uint8_t* tile = memory.data() + int_tile_at(form, k, r, g);
      float scale = 0, least = 0, most = 0;
      std::memcpy(&scale, tile + int_scale_at(form, r, g), 4);
      for (int c = g; c < std::min(k, g + form.group); ++c) {
        const float v = value(values[static_cast<std::size_t>(r) * k + c]);
        least = std::min(least, v), most = std::max(most, v);
      }
      const auto held = [&](int c) {
        const IntPlace at = int_place(form.bits, r, c);
        const std::uint8_t byte = memory[int_tile_at(form, k, r, c) + at.byte];
        return form.bits == 4 ? (byte >> at.shift & 15) - 8 : static_cast<std::int8_t>(byte);
      };
      const auto nearest = [&](float s, int c) {
        return std::clamp(static_cast<int>(std::lrint(value(values[static_cast<std::size_t>(r) * k + c]) * (1 / s))),
                          low, high);
      };
      for (int c = g; c < std::min(k, g + form.group); ++c) far += held(c) != nearest(scale, c);
      double best = 1e30;
      for (int i = 0; i < (form.bits == 4 ? 16 : 1); ++i) {
        const float full = form.bits == 4 ? std::max(most / 7, -least / 8) : std::max(most, -least) / 127;
        const float s =
            form.bits == 4 ? value(__float2bfloat16_rn(full * (1 - 0.35F * static_cast<float>(i) / 15))) : full;
        best = std::min(best, error_of(r, g, s, [&](int c) { return nearest(s, c); }));
      }
      worse += error_of(r, g, scale, held) > best * 1.0001 + 1e-12;
    }
  expect(far == 0, "rounded to int%d: %d codes are not the nearest", form.bits, far);
  expect(worse == 0, "rounded to int%d: %d groups have a worse scale than the host's", form.bits, worse);
  cudaFree(source), cudaFree(w.data);
}

constexpr IntForm kForms[] = {{4, 128}, {4, 64}, {4, 32}, {8, 128}, {8, 64}, {8, 32}};

}  // namespace

void test_ints() {
  for (const IntForm form : kForms) {
    test_product(form, 64, 256, 5);  // fewer steps than parts
    test_product(form, 200, 576, 33);
    test_product(form, 576, 1536, 130);
    test_product(form, 320, 1408, 300);
    test_epilogues(form, 160, 640, 37);
    test_grouped(form, 5, 192, 704);
    test_rounding(form, 96, 640);
  }
  test_product({4, 128}, 20000, 4096, 3);
  test_product({8, 128}, 20000, 1024, 1);
  test_product({4, 128}, 512, 14336, 40);
}

void test_ints_few() {
  for (const IntForm form : {kForms[0], kForms[2], kForms[3]}) {
    test_product(form, 200, 640, 9);
    test_grouped(form, 3, 64, 256);
    test_rounding(form, 16, 256);
  }
}
