// An FGSE layer of MM-CSE between its products, for CPUs. mmcse/models/kernels.py builds and calls this;
// mmcse/models/merged.py and feedforward.py have the same in PyTorch's operators.
//
// Heads are small (25 tokens of 16 numbers): PyTorch's operators take longer to move heads, scores and weights through
// memory than to compute with them. Here a head is read where the product has it, nothing is written but what it
// gathered, and its gradient computes the weights anew. Vectors run along queries, scores stand as (keys, queries): so
// softmax sums no vector's parts.

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

using at::Tensor;

constexpr int64_t kVectorBytes = __BIGGEST_ALIGNMENT__;
constexpr int64_t kBlock = 5;  // rows of a product that are summed at once
constexpr int64_t kModes = 2, kModalities = 2;

// A vector of the numbers that are computed with, and vectors of integers beside them.
template <typename C>
struct Vector {
  static constexpr int64_t lanes = kVectorBytes / sizeof(C);
  typedef C type __attribute__((vector_size(kVectorBytes), may_alias));
  typedef std::conditional_t<sizeof(C) == 4, int32_t, int64_t> Integer;
  typedef Integer Integers __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t Words __attribute__((vector_size(lanes * sizeof(uint32_t))));
  typedef uint16_t Halves __attribute__((vector_size(lanes * sizeof(uint16_t))));
};

using Floats = Vector<float>::type;
using Doubles = Vector<double>::type;

template <typename V>
inline V copied(const void* from) {
  V x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

// 2^x of numbers that are not above zero, to single precision: 2^n times a polynomial (minimax of the relative error).
inline Floats power_of_two(Floats x) {
  const Floats least = Floats{} - 126.0f;
  x = x < least ? least : x;
  const auto n = __builtin_convertvector(x - 0.5f, Vector<float>::Integers);
  const Floats r = x - __builtin_convertvector(n, Floats);
  Floats p = r * 1.5345811837e-4f + 1.3399931218e-3f;
  p = p * r + 9.6184889577e-3f;
  p = p * r + 5.5503287770e-2f;
  p = p * r + 2.4022646891e-1f;
  p = p * r + 6.9314720574e-1f;
  p = p * r + 1.0f;
  const auto bits = (n + 127) << 23;
  return p * copied<Floats>(&bits);
}

inline Doubles power_of_two(Doubles x) {
  for (int64_t l = 0; l < Vector<double>::lanes; ++l) x[l] = std::exp2(x[l]);
  return x;
}

constexpr double kLog2E = 1.4426950408889634;

// Numbers of memory as a vector, and back; bfloat16 to the nearest, ties to even.
inline Floats vector_at(const float* from) { return copied<Floats>(from); }
inline Doubles vector_at(const double* from) { return copied<Doubles>(from); }
inline Floats vector_at(const at::BFloat16* from) {
  const auto bits = __builtin_convertvector(copied<Vector<float>::Halves>(from), Vector<float>::Words) << 16;
  return copied<Floats>(&bits);
}

inline void put(Floats x, float* to) { std::memcpy(to, &x, sizeof x); }
inline void put(Doubles x, double* to) { std::memcpy(to, &x, sizeof x); }
inline void put(Floats x, at::BFloat16* to) {
  using Words = Vector<float>::Words;
  const Words bits = copied<Words>(&x), no_number = Words{} + 0x7fc0U;
  const Words rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const Words chosen = (bits & 0x7fffffffU) > 0x7f800000U ? no_number : rounded;
  const auto halves = __builtin_convertvector(chosen, Vector<float>::Halves);
  std::memcpy(to, &halves, sizeof halves);
}

template <typename T>
struct Accurate {
  using type = float;
};
template <>
struct Accurate<double> {
  using type = double;
};

// The same of the first `count` numbers of a vector; zeros stand in for the others.
template <typename T>
inline auto vector_at(const T* from, int64_t count) {
  constexpr int64_t lanes = Vector<typename Accurate<T>::type>::lanes;
  if (count == lanes) return vector_at(from);
  T numbers[lanes] = {};
  std::memcpy(numbers, from, count * sizeof(T));
  return vector_at(numbers);
}

template <typename T, typename V>
inline void put(V x, T* to, int64_t count) {
  constexpr int64_t lanes = Vector<typename Accurate<T>::type>::lanes;
  if (count == lanes) return put(x, to);
  T numbers[lanes];
  put(x, numbers);
  std::memcpy(to, numbers, count * sizeof(T));
}

// Calls f(where a vector of a row begins, how many of its numbers are in the row).
template <typename C, typename F>
inline void for_each_vector(int64_t length, const F& f) {
  constexpr int64_t lanes = Vector<C>::lanes;
  int64_t c = 0;
  for (; c + lanes <= length; c += lanes) f(c, lanes);
  if (c < length) f(c, length - c);
}

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// A matrix of a thread's own, in whole vectors and blocks, zero where there is nothing.
template <typename C>
class Matrix {
 public:
  using V = typename Vector<C>::type;

  Matrix(int64_t rows, int64_t columns)
      : vectors(round_up(columns, Vector<C>::lanes) / Vector<C>::lanes),
        width(vectors * Vector<C>::lanes),
        memory_(round_up(rows, kBlock * Vector<C>::lanes) * width + Vector<C>::lanes, C(0)),
        data(reinterpret_cast<C*>(round_up(reinterpret_cast<int64_t>(memory_.data()), kVectorBytes))) {}
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  C* row(int64_t i) const { return data + i * width; }
  V& at(int64_t i, int64_t v) const { return reinterpret_cast<V*>(row(i))[v]; }

  const int64_t vectors, width;

 private:
  std::vector<C> memory_;

 public:
  C* const data;
};

// How the rows of a left factor are read: as they stand, or as columns of what is stored.
enum class As { stored, turned };

// out = a b; inner is the common length.
template <As as, typename C>
inline void multiply(const Matrix<C>& a, const Matrix<C>& b, const Matrix<C>& out, int64_t rows, int64_t inner) {
  using V = typename Vector<C>::type;
  const int64_t by_row = as == As::stored ? a.width : 1, by_inner = as == As::stored ? 1 : a.width;
  const int64_t vectors = out.vectors;
  for (int64_t i = 0; i < rows; i += kBlock)
    for (int64_t v = 0; v < vectors; ++v) {
      const C* left = a.data + i * by_row;
      const V* right = &b.at(0, v);
      V* to = &out.at(i, v);
      V sums[kBlock] = {};
      for (int64_t k = 0; k < inner; ++k, left += by_inner, right += vectors)
        for (int64_t r = 0; r < kBlock; ++r) sums[r] += left[r * by_row] * *right;
      for (int64_t r = 0; r < kBlock; ++r) to[r * vectors] = sums[r];
    }
}

struct Shape {
  int64_t sets, n, heads, e, width;
  int64_t dim() const { return heads * e; }
};

template <typename T, typename C>
inline void load_row(const T* __restrict from, int64_t length, C* __restrict to, C scale = 1) {
  for_each_vector<C>(length, [&](int64_t c, int64_t count) { put(scale * vector_at(from + c, count), to + c); });
}

template <typename T, typename C>
inline void store_row(const C* __restrict from, int64_t length, T* __restrict to, C scale = 1) {
  for_each_vector<C>(length, [&](int64_t c, int64_t count) { put(scale * vector_at(from + c), to + c, count); });
}

// A head's tokens, `stride` numbers apart, times a number.
template <typename T, typename C>
inline void load(const T* from, int64_t stride, int64_t n, int64_t e, const Matrix<C>& to, C scale = 1) {
  for (int64_t i = 0; i < n; ++i) {
    const T* token = from + i * stride;
    __builtin_prefetch(token + e);  // of the next head
    load_row(token, e, to.row(i), scale);
  }
}

template <typename T, typename C>
inline void store(const Matrix<C>& from, T* to, int64_t stride, int64_t n, int64_t e, C scale = 1) {
  for (int64_t i = 0; i < n; ++i) store_row(from.row(i), e, to + i * stride, scale);
}

// A step of turning a square of vectors: in blocks of 2 * step, what stands beside the diagonal changes places.
template <int64_t step, typename C>
inline void exchange(typename Vector<C>::type* rows) {
  constexpr int64_t lanes = Vector<C>::lanes;
  typename Vector<C>::Integers upper, lower;
  for (int64_t l = 0; l < lanes; ++l) {
    upper[l] = l & step ? lanes + l - step : l;
    lower[l] = l & step ? lanes + l : l + step;
  }
  for (int64_t r = 0; r < lanes; ++r)
    if (!(r & step)) {
      const auto a = rows[r], b = rows[r + step];
      rows[r] = __builtin_shuffle(a, b, upper);
      rows[r + step] = __builtin_shuffle(a, b, lower);
    }
  if constexpr (step > 1) exchange<step / 2, C>(rows);
}

template <typename C>
inline void turn(const Matrix<C>& from, const Matrix<C>& to, int64_t rows, int64_t columns) {
  constexpr int64_t lanes = Vector<C>::lanes;
  for (int64_t i = 0; i < rows; i += lanes)
    for (int64_t c = 0; c < columns; c += lanes) {
      typename Vector<C>::type square[lanes];
      for (int64_t r = 0; r < lanes; ++r) square[r] = from.at(i + r, c / lanes);
      exchange<lanes / 2, C>(square);
      for (int64_t r = 0; r < lanes; ++r) to.at(c + r, i / lanes) = square[r];
    }
}

template <typename W>
inline W mixed(W x) {  // the finaliser of MurmurHash3, of vectors of words
  x = (x ^ x >> 16) * 0x85ebca6bU;
  x = (x ^ x >> 13) * 0xc2b2ae35U;
  return x ^ x >> 16;
}

inline uint64_t mixed(uint64_t x) {  // that of SplitMix64, of a number
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
  return x ^ x >> 31;
}

// What dropout keeps, of elements by number.
struct Draws {
  Draws(double rate, uint64_t key)
      : threshold(static_cast<uint32_t>(rate * 4294967296.0)),
        first(static_cast<uint32_t>(key)),
        second(static_cast<uint32_t>(key >> 32)) {}

  // A vector's numbers that are kept, 0 for the others.
  template <typename C>
  typename Vector<C>::type kept(uint32_t number, typename Vector<C>::type x) const {
    typename Vector<C>::Words lanes;
    for (int64_t l = 0; l < Vector<C>::lanes; ++l) lanes[l] = static_cast<uint32_t>(l);
    const auto draws = mixed(mixed((lanes + number) ^ first) ^ second);
    return __builtin_convertvector(draws >= threshold, typename Vector<C>::Integers) ? x : x * 0;
  }

  const uint32_t threshold, first, second;
};

// A head, and its weights before and after dropout, both (keys, queries).
template <typename C>
struct Head {
  using V = typename Vector<C>::type;

  explicit Head(const Shape& s)
      : query(s.n, s.e), key(s.n, s.e), value(s.n, s.e), turned(s.e, s.n), weights(s.n, s.n), kept(s.n, s.n) {}

  void relate(const Shape& s, double rate, uint64_t key_of_draws) {
    turn(query, turned, s.n, s.e);
    multiply<As::stored>(key, turned, weights, s.n, s.e);
    const int64_t n = s.n, vectors = weights.vectors;
    for (int64_t v = 0; v < vectors; ++v) {
      V* const column = &weights.at(0, v);
      V largest = column[0], sum = {};
      for (int64_t j = 1; j < n; ++j) {
        const V x = column[j * vectors];
        largest = x > largest ? x : largest;
      }
      for (int64_t j = 0; j < n; ++j) sum += column[j * vectors] = power_of_two(column[j * vectors] - largest);
      const V share = 1 / sum;
      for (int64_t j = 0; j < n; ++j) column[j * vectors] *= share;
    }
    if (rate > 0) drop(s, rate, key_of_draws);
  }

  Matrix<C> query, key, value, turned, weights, kept;

 private:
  void drop(const Shape& s, double rate, uint64_t key_of_draws) {
    const Draws draws(rate, key_of_draws);
    const int64_t vectors = weights.vectors, all = s.n * vectors;
    const V* const from = &weights.at(0, 0);
    V* const to = &kept.at(0, 0);
    for (int64_t i = 0; i < all; ++i) to[i] = draws.kept<C>(static_cast<uint32_t>(i * Vector<C>::lanes), from[i]);
  }
};

// One modality's queries of a set in one mode.
struct Task {
  Task(int64_t number, const Shape& s) : mode(number / kModalities % kModes) {
    const int64_t set = number / (kModes * kModalities), modality = number % kModalities;
    const int64_t other = mode == 0 ? modality : 1 - modality, first = mode * 3 * s.dim();
    queries = (set * kModalities + modality) * s.n * s.width + first;
    keys = (set * kModalities + other) * s.n * s.width + first + s.dim();
    values = keys + s.dim();
    gathered = (set * kModalities + modality) * s.n * s.dim();
    map = ((mode * s.sets + set) * kModalities + modality) * s.n * s.n;
  }
  int64_t mode;
  int64_t queries, keys, values, gathered, map;  // where they begin
};

template <typename F>
void for_each_task(const Shape& s, const F& f) {
  at::parallel_for(0, s.sets * kModes * kModalities, 1, f);
}

template <typename T>
void forward(const Tensor& product, const Shape& s, double rate, uint64_t seed, const Tensor (&gathered)[kModes],
             const Tensor& maps) {
  using C = typename Accurate<T>::type;
  const T* from = product.const_data_ptr<T>();
  T* to[kModes] = {gathered[0].mutable_data_ptr<T>(), gathered[1].mutable_data_ptr<T>()};
  C* to_maps = maps.numel() ? maps.mutable_data_ptr<C>() : nullptr;
  const C scale = 1 / std::sqrt(static_cast<C>(s.e));
  for_each_task(s, [&](int64_t begin, int64_t end) {
    Head<C> head(s);
    const Matrix<C> out(s.n, s.e), sum(s.n, s.n);
    for (int64_t number = begin; number < end; ++number) {
      const Task task(number, s);
      for (int64_t h = 0; h < s.heads; ++h) {
        load(from + task.queries + h * s.e, s.width, s.n, s.e, head.query, static_cast<C>(scale * kLog2E));
        load(from + task.keys + h * s.e, s.width, s.n, s.e, head.key);
        load(from + task.values + h * s.e, s.width, s.n, s.e, head.value);
        head.relate(s, rate, mixed(seed + static_cast<uint64_t>(number * s.heads + h)));
        const Matrix<C>& used = rate > 0 ? head.kept : head.weights;
        multiply<As::turned>(used, head.value, out, s.n, s.n);
        store(out, to[task.mode] + task.gathered + h * s.e, s.dim(), s.n, s.e);
        if (to_maps)
          for (int64_t j = 0; j < s.n; ++j)
            for (int64_t v = 0; v < sum.vectors; ++v) sum.at(j, v) = h ? sum.at(j, v) + used.at(j, v) : used.at(j, v);
      }
      if (to_maps)
        for (int64_t i = 0; i < s.n; ++i)
          for (int64_t j = 0; j < s.n; ++j) to_maps[task.map + i * s.n + j] = sum.row(j)[i] / static_cast<C>(s.heads);
    }
  });
}

template <typename T>
void backward(const Tensor& product, const Shape& s, double rate, uint64_t seed, const Tensor (&of_gathered)[kModes],
              const std::optional<Tensor>& of_maps, const Tensor& of_product) {
  using C = typename Accurate<T>::type;
  const T* from = product.const_data_ptr<T>();
  const T* given[kModes] = {of_gathered[0].const_data_ptr<T>(), of_gathered[1].const_data_ptr<T>()};
  const C* given_maps = of_maps ? of_maps->const_data_ptr<C>() : nullptr;
  T* to = of_product.mutable_data_ptr<T>();
  const C scale = 1 / std::sqrt(static_cast<C>(s.e));
  for_each_task(s, [&](int64_t begin, int64_t end) {
    Head<C> head(s);
    const Matrix<C> of_out(s.n, s.e), turned(s.e, s.n), by_score(s.n, s.n), result(s.n, s.e), of_map(s.n, s.n);
    for (int64_t number = begin; number < end; ++number) {
      const Task task(number, s);
      if (given_maps)
        for (int64_t i = 0; i < s.n; ++i)
          for (int64_t j = 0; j < s.n; ++j)
            of_map.row(j)[i] = given_maps[task.map + i * s.n + j] / static_cast<C>(s.heads);
      for (int64_t h = 0; h < s.heads; ++h) {
        load(from + task.queries + h * s.e, s.width, s.n, s.e, head.query, static_cast<C>(scale * kLog2E));
        load(from + task.keys + h * s.e, s.width, s.n, s.e, head.key);
        load(from + task.values + h * s.e, s.width, s.n, s.e, head.value);
        load(given[task.mode] + task.gathered + h * s.e, s.dim(), s.n, s.e, of_out);
        head.relate(s, rate, mixed(seed + static_cast<uint64_t>(number * s.heads + h)));
        const Matrix<C>& used = rate > 0 ? head.kept : head.weights;

        multiply<As::stored>(used, of_out, result, s.n, s.n);
        store(result, to + task.values + h * s.e, s.width, s.n, s.e);

        turn(of_out, turned, s.n, s.e);
        multiply<As::stored>(head.value, turned, by_score, s.n, s.e);
        const int64_t n = s.n, vectors = by_score.vectors;
        for (int64_t v = 0; v < vectors; ++v) {
          using V = typename Vector<C>::type;
          V* const scores = &by_score.at(0, v);
          const V *const map = &of_map.at(0, v), *const kept = &used.at(0, v), *const weights = &head.weights.at(0, v);
          V sum = {};
          for (int64_t j = 0; j < n * vectors; j += vectors) sum += scores[j] = (scores[j] + map[j]) * kept[j];
          for (int64_t j = 0; j < n * vectors; j += vectors) scores[j] -= weights[j] * sum;
        }
        multiply<As::turned>(by_score, head.key, result, s.n, s.n);
        store(result, to + task.queries + h * s.e, s.width, s.n, s.e, scale);
        multiply<As::stored>(by_score, head.query, result, s.n, s.n);
        store(result, to + task.keys + h * s.e, s.width, s.n, s.e, static_cast<C>(1 / kLog2E));
      }
    }
  });
}

Shape shape_of(const Tensor& product, int64_t dim, int64_t heads) {
  const int64_t n = product.size(-2), width = product.size(-1);
  TORCH_CHECK(product.is_contiguous() && product.size(-3) == kModalities && dim % heads == 0 && width >= 6 * dim,
              "expected a contiguous product (..., 2, K, 6 d or more)");
  return {product.numel() / (kModalities * n * width), n, heads, dim / heads, width};
}

// What was gathered in the intra and in the cross mode, and the maps of both (mean over heads) where they are needed.
std::tuple<Tensor, Tensor, Tensor> attend(const Tensor& product, int64_t dim, int64_t heads, double rate, int64_t seed,
                                          bool need_maps) {
  const Shape s = shape_of(product, dim, heads);
  auto size = product.sizes().vec();
  size.back() = dim;
  const Tensor gathered[] = {at::empty(size, product.options()), at::empty(size, product.options())};
  size.back() = s.n;
  size.insert(size.begin(), need_maps ? kModes : 0);
  const auto type = product.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor maps = at::empty(size, product.options().dtype(type));
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, product.scalar_type(), "attend", [&] {
    forward<scalar_t>(product, s, rate, static_cast<uint64_t>(seed), gathered, maps);
  });
  return {gathered[0], gathered[1], maps};
}

// Writes the gradient's columns of queries, keys and values, which leaves out what else stands in the product.
void attend_backward(const Tensor& product, int64_t dim, int64_t heads, double rate, int64_t seed,
                     const Tensor& of_intra, const Tensor& of_cross, const std::optional<Tensor>& of_maps,
                     const Tensor& of_product) {
  const Shape s = shape_of(product, dim, heads);
  const Tensor of_gathered[] = {of_intra, of_cross};
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, product.scalar_type(), "attend_backward", [&] {
    backward<scalar_t>(product, s, rate, static_cast<uint64_t>(seed), of_gathered, of_maps, of_product);
  });
}

// What LGSF computes between products, in passes over the tokens of a modality of a video: T times K of them.

// The sum of a vector's numbers, by halves.
template <int64_t bytes = kVectorBytes, typename C>
inline C total_at(const C* numbers) {
  if constexpr (bytes == sizeof(C)) {
    return *numbers;
  } else {
    typedef C Half __attribute__((vector_size(bytes / 2)));
    Half a, b;
    std::memcpy(&a, numbers, sizeof a);
    std::memcpy(&b, numbers + bytes / 2 / sizeof(C), sizeof b);
    a += b;
    C halves[bytes / 2 / sizeof(C)];
    std::memcpy(halves, &a, sizeof a);
    return total_at<bytes / 2>(halves);
  }
}

template <typename C, typename V>
inline C total(V x) {
  C numbers[Vector<C>::lanes];
  std::memcpy(numbers, &x, sizeof x);
  return total_at(numbers);
}

struct Tokens {
  explicit Tokens(const Tensor& x) : videos(x.size(0)), segments(x.size(1)), classes(x.size(3)), dim(x.size(4)) {}

  template <typename F>
  void for_each_modality(const F& f) const {
    at::parallel_for(0, videos * kModalities, 1, f);
  }
  int64_t token(int64_t number, int64_t t, int64_t k) const {
    return ((number / kModalities * segments + t) * kModalities + number % kModalities) * classes + k;
  }

  int64_t videos, segments, classes, dim;
};

// Between two tokens, which stand one after another.
int64_t stride_of(const Tensor& tokens) {
  const int64_t stride = tokens.stride(3);
  TORCH_CHECK(tokens.stride(4) == 1 && tokens.stride(2) == stride * tokens.size(3) &&
                  tokens.stride(1) == tokens.stride(2) * tokens.size(2) &&
                  (tokens.size(0) == 1 || tokens.stride(0) == tokens.stride(1) * tokens.size(1)),
              "expected tokens (B, T, 2, K, d) one after another");
  return stride;
}

// Rows that stand apart are not foreseen by the processor: fetch the one that follows a few tokens later.
template <typename T>
inline void fetch_ahead(const T* token, int64_t stride, int64_t length) {
  constexpr int64_t kTokens = 6, kLine = 64 / sizeof(T);
  for (int64_t c = 0; c < length; c += kLine) __builtin_prefetch(token + kTokens * stride + c);
}

// Mean of ReLU(x) over time.
Tensor relu_mean(const Tensor& x) {
  const Tokens all(x);
  const int64_t stride = stride_of(x);
  const Tensor mean = at::empty({all.videos, 1, x.size(2), x.size(3), all.dim}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "relu_mean", [&] {
    using C = typename Accurate<scalar_t>::type;
    using V = typename Vector<C>::type;
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = mean.mutable_data_ptr<scalar_t>();
    all.for_each_modality([&](int64_t begin, int64_t end) {
      const Matrix<C> sums(all.classes, all.dim);
      for (int64_t number = begin; number < end; ++number) {
        for (int64_t t = 0; t < all.segments; ++t)
          for (int64_t k = 0; k < all.classes; ++k) {
            const scalar_t* __restrict token = from + all.token(number, t, k) * stride;
            fetch_ahead(token, stride, all.dim);
            C* sum = sums.row(k);
            for_each_vector<C>(all.dim, [&](int64_t c, int64_t count) {
              const V value = vector_at(token + c, count), positive = value < 0 ? V{} : value;
              put(t ? vector_at(sum + c) + positive : positive, sum + c);
            });
          }
        for (int64_t k = 0; k < all.classes; ++k)
          store_row(sums.row(k), all.dim, to + (number * all.classes + k) * all.dim, 1 / static_cast<C>(all.segments));
      }
    });
  });
  return mean;
}

// One of the two modes for a modality of a video: relevance = sigmoid(cosine(ReLU(segment), video)).
template <typename C>
class Mode {
 public:
  using V = typename Matrix<C>::V;

  explicit Mode(const Tokens& s)
      : segment(1, s.dim), of_segment(1, s.dim), video(s.classes, s.dim), shared(s.classes, s.dim),
        of_unit(s.classes, s.dim), of_shared(s.classes, s.dim), norms_(1, s.classes), s_(s) {}

  template <typename T>
  void begin(const T* videos, const T* shareds) {
    for (int64_t k = 0; k < s_.classes; ++k) {
      load_row(videos + k * s_.dim, s_.dim, video.row(k));
      load_row(shareds + k * s_.dim, s_.dim, shared.row(k));
      V square = {};
      for (int64_t v = 0; v < video.vectors; ++v) square += video.at(k, v) * video.at(k, v);
      norms_.row(0)[k] = at_least(std::sqrt(total<C>(square)));
      for (int64_t v = 0; v < video.vectors; ++v) {
        video.at(k, v) /= norms_.row(0)[k];
        of_unit.at(k, v) = of_shared.at(k, v) = V{};
      }
    }
  }

  void relate(int64_t k) {
    V square = {}, product = {};
    for (int64_t v = 0; v < segment.vectors; ++v) {
      V& x = segment.at(0, v);
      x = x < 0 ? V{} : x;
      square += x * x;
      product += x * video.at(k, v);
    }
    norm_ = at_least(std::sqrt(total<C>(square)));
    cosine_ = total<C>(product) / norm_;
    relevance_ = 1 / (1 + std::exp(-cosine_));
  }

  C relevance() const { return relevance_; }

  void relate_backward(int64_t k, const Matrix<C>& given) {
    V along = {};
    for (int64_t v = 0; v < given.vectors; ++v) along += given.at(0, v) * shared.at(k, v);
    const C share = total<C>(along) * relevance_ * (1 - relevance_) / norm_, back = cosine_ * share / norm_;
    for (int64_t v = 0; v < given.vectors; ++v) {
      const V x = segment.at(0, v);
      of_shared.at(k, v) += relevance_ * given.at(0, v);
      of_unit.at(k, v) += share * x;
      of_segment.at(0, v) = x > 0 ? share * video.at(k, v) - back * x : V{};
    }
  }

  template <typename T>
  void end(T* of_videos, T* of_shareds) {
    for (int64_t k = 0; k < s_.classes; ++k) {
      V along = {};
      for (int64_t v = 0; v < video.vectors; ++v) along += of_unit.at(k, v) * video.at(k, v);
      const C length = total<C>(along);
      for (int64_t v = 0; v < video.vectors; ++v)
        of_unit.at(k, v) = (of_unit.at(k, v) - length * video.at(k, v)) / norms_.row(0)[k];
      store_row(of_unit.row(k), s_.dim, of_videos + k * s_.dim);
      store_row(of_shared.row(k), s_.dim, of_shareds + k * s_.dim);
    }
  }

  const Matrix<C> segment, of_segment;  // of a token
  const Matrix<C> video, shared, of_unit, of_shared;  // of every class

 private:
  static C at_least(C norm) { return norm < C(1e-8) ? C(1e-8) : norm; }

  const Matrix<C> norms_;
  const Tokens s_;
  C norm_ = 1, cosine_ = 0, relevance_ = 0;
};

template <typename T, typename C>
inline void load_sum(const T* __restrict a, const T* __restrict b, int64_t length, C* __restrict to) {
  for_each_vector<C>(
      length, [&](int64_t c, int64_t count) { put(vector_at(a + c, count) + vector_at(b + c, count), to + c); });
}

// What the fusion and its gradient read, token by token; the modes' segments are first and joint + second.
template <typename T>
struct Fusion {
  using C = typename Accurate<T>::type;

  Fusion(const Tensor& first, const Tensor& joint, const Tensor& second, const Tensor& video_1, const Tensor& video_2,
         const Tensor& shared_1, const Tensor& shared_2)
      : all(first), of_joint(stride_of(joint)), first(read(first)), joint(read(joint)), second(read(second)),
        videos{read(video_1), read(video_2)}, shares{read(shared_1), read(shared_2)} {}

  static const T* read(const Tensor& tensor) { return tensor.const_data_ptr<T>(); }

  // Calls at_token(token, k, intra, cross, a row to use), and after_modality(where its features begin, intra, cross).
  template <typename AtToken, typename AfterModality>
  void pass(const AtToken& at_token, const AfterModality& after_modality) const {
    all.for_each_modality([&](int64_t begin, int64_t end) {
      Mode<C> intra(all), cross(all);
      const Matrix<C> row(1, all.dim);
      for (int64_t number = begin; number < end; ++number) {
        const int64_t feature = number * all.classes * all.dim;
        intra.begin(videos[0] + feature, shares[0] + feature);
        cross.begin(videos[1] + feature, shares[1] + feature);
        for (int64_t t = 0; t < all.segments; ++t)
          for (int64_t k = 0; k < all.classes; ++k) {
            const int64_t token = all.token(number, t, k);
            fetch_ahead(joint + token * of_joint, of_joint, all.dim);
            load_row(first + token * all.dim, all.dim, intra.segment.data);
            load_sum(joint + token * of_joint, second + token * all.dim, all.dim, cross.segment.data);
            intra.relate(k);
            cross.relate(k);
            at_token(token, k, intra, cross, row);
          }
        after_modality(feature, intra, cross);
      }
    });
  }

  const Tokens all;
  const int64_t of_joint;
  const T *const first, *const joint, *const second;
  const T* const videos[kModes];
  const T* const shares[kModes];
};

// carried + relevance 1 * shared 1 + relevance 2 * shared 2.
Tensor fuse(const Tensor& carried, const Tensor& first, const Tensor& joint, const Tensor& second,
            const Tensor& video_1, const Tensor& video_2, const Tensor& shared_1, const Tensor& shared_2) {
  const int64_t of_carried = stride_of(carried), dim = first.size(4);
  const Tensor fused = at::empty(first.sizes(), first.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, first.scalar_type(), "fuse", [&] {
    const Fusion<scalar_t> fusion(first, joint, second, video_1, video_2, shared_1, shared_2);
    const scalar_t* from = fusion.read(carried);
    scalar_t* to = fused.mutable_data_ptr<scalar_t>();
    fusion.pass(
        [&](int64_t token, int64_t k, const auto& intra, const auto& cross, const auto& sum) {
          fetch_ahead(from + token * of_carried, of_carried, dim);
          load_row(from + token * of_carried, dim, sum.data);
          for (int64_t v = 0; v < sum.vectors; ++v)
            sum.at(0, v) += intra.relevance() * intra.shared.at(k, v) + cross.relevance() * cross.shared.at(k, v);
          store_row(sum.data, dim, to + token * dim);
        },
        [](int64_t, const auto&, const auto&) {});
  });
  return fused;
}

// Gradients by first, by second (and by joint, which is the same), and by both video and shared features.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> fuse_backward(
    const Tensor& given, const Tensor& first, const Tensor& joint, const Tensor& second, const Tensor& video_1,
    const Tensor& video_2, const Tensor& shared_1, const Tensor& shared_2) {
  const int64_t dim = first.size(4);
  const Tensor of_first = at::empty_like(first), of_second = at::empty_like(second);
  const Tensor of_video_1 = at::empty_like(video_1), of_video_2 = at::empty_like(video_2);
  const Tensor of_shared_1 = at::empty_like(shared_1), of_shared_2 = at::empty_like(shared_2);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, first.scalar_type(), "fuse_backward", [&] {
    const Fusion<scalar_t> fusion(first, joint, second, video_1, video_2, shared_1, shared_2);
    const auto place = [](const Tensor& tensor) { return tensor.mutable_data_ptr<scalar_t>(); };
    const scalar_t* from = fusion.read(given);
    scalar_t *to_first = place(of_first), *to_second = place(of_second);
    scalar_t *to_video_1 = place(of_video_1), *to_video_2 = place(of_video_2);
    scalar_t *to_shared_1 = place(of_shared_1), *to_shared_2 = place(of_shared_2);
    fusion.pass(
        [&](int64_t token, int64_t k, auto& intra, auto& cross, const auto& gradient) {
          load_row(from + token * dim, dim, gradient.data);
          intra.relate_backward(k, gradient);
          cross.relate_backward(k, gradient);
          store_row(intra.of_segment.data, dim, to_first + token * dim);
          store_row(cross.of_segment.data, dim, to_second + token * dim);
        },
        [&](int64_t feature, auto& intra, auto& cross) {
          intra.end(to_video_1 + feature, to_shared_1 + feature);
          cross.end(to_video_2 + feature, to_shared_2 + feature);
        });
  });
  return {of_first, of_second, of_video_1, of_video_2, of_shared_1, of_shared_2};
}

// ReLU and dropout, without the factor of dropout.
Tensor relu_drop(const Tensor& x, double rate, int64_t seed) {
  const Tensor out = at::empty_like(x);
  constexpr int64_t kRun = 4096;  // elements that share a key of draws
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "relu_drop", [&] {
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, (x.numel() + kRun - 1) / kRun, 4, [&](int64_t begin, int64_t end) {
      for (int64_t run = begin; run < end; ++run) {
        const Draws draws(rate, mixed(static_cast<uint64_t>(seed) + static_cast<uint64_t>(run)));
        const scalar_t* __restrict a = from + run * kRun;
        scalar_t* __restrict b = to + run * kRun;
        const int64_t length = std::min(kRun, x.numel() - run * kRun);
        using C = typename Accurate<scalar_t>::type;
        for_each_vector<C>(length, [&](int64_t c, int64_t count) {
          const auto value = vector_at(a + c, count);
          put(draws.kept<C>(static_cast<uint32_t>(c), value < 0 ? value * 0 : value), b + c, count);
        });
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY(mmcse_kernels, library) {
  library.def(
      "attend(Tensor product, int dim, int heads, float rate, int seed, bool need_maps) -> (Tensor, Tensor, Tensor)");
  library.def(
      "attend_backward(Tensor product, int dim, int heads, float rate, int seed, Tensor of_intra, Tensor of_cross, "
      "Tensor? of_maps, Tensor(a!) of_product) -> ()");
  library.def("relu_mean(Tensor x) -> Tensor");
  library.def(
      "fuse(Tensor carried, Tensor first, Tensor joint, Tensor second, Tensor video_1, Tensor video_2, "
      "Tensor shared_1, Tensor shared_2) -> Tensor");
  library.def(
      "fuse_backward(Tensor given, Tensor first, Tensor joint, Tensor second, Tensor video_1, Tensor video_2, "
      "Tensor shared_1, Tensor shared_2) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def("relu_drop(Tensor x, float rate, int seed) -> Tensor");
}

TORCH_LIBRARY_IMPL(mmcse_kernels, CPU, library) {
  library.impl("attend", attend);
  library.impl("attend_backward", attend_backward);
  library.impl("relu_mean", relu_mean);
  library.impl("fuse", fuse);
  library.impl("fuse_backward", fuse_backward);
  library.impl("relu_drop", relu_drop);
}
