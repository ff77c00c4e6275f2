// Tiles of up to kAttentionTile queries over one head's cache. Layout and order: kernels/attention.h.
#pragma once

// Query i of the head sees slots [lo, hi).
static inline int visible_lo(const AttentionHead* head, int i) {
  const int hi = head->last + i + 1;
  return head->window > 0 && hi > head->window ? hi - head->window : 0;
}

// Scores of Q queries against B blocks of sixteen keys, block b at keys + b * head_dim * 16.
template <int Q, int B>
static inline void score_blocks(const float* const* q, const float* keys, int head_dim, float scale,
                                float* const* scores) {
  Vec acc[Q][B];
  for (int i = 0; i < Q; ++i)
    for (int b = 0; b < B; ++b) acc[i][b] = zero();
  const ptrdiff_t block = static_cast<ptrdiff_t>(head_dim) * kLanes;
  for (int d = 0; d < head_dim; ++d) {
    Vec k[B];
    for (int b = 0; b < B; ++b) k[b] = load(keys + b * block + d * kLanes);
    for (int i = 0; i < Q; ++i) {
      const Vec x = splat(q[i][d]);
      for (int b = 0; b < B; ++b) acc[i][b] = fma(x, k[b], acc[i][b]);
    }
  }
  for (int i = 0; i < Q; ++i)
    for (int b = 0; b < B; ++b) store(scores[i] + b * kLanes, acc[i][b] * splat(scale));
}

// Softmax of one score row over slots [lo, hi), blocks [begin, end); masked slots become 0.
// Returns the sum; the row holds the unnormalised weights.
static inline float softmax_row(float* scores, int begin, int end, int lo, int hi) {
  const Vec low = splat(-3.0e38f);
  Vec top = low;
  for (int b = begin; b < end; ++b) {
    const int from = lo - b * kLanes, to = hi - b * kLanes;
    Vec s = load(scores + (b - begin) * kLanes);
    if (from > 0 || to < kLanes) {
      s = keep(s, from < 0 ? 0 : from > kLanes ? kLanes : from, to < 0 ? 0 : to > kLanes ? kLanes : to, low);
      store(scores + (b - begin) * kLanes, s);
    }
    top = vmax(top, s);
  }
  const Vec peak = splat(max_of(top));
  Vec total = zero();
  for (int b = begin; b < end; ++b) {
    const Vec p = vexp(load(scores + (b - begin) * kLanes) - peak);
    store(scores + (b - begin) * kLanes, p);
    total = total + p;
  }
  return sum(total);
}

// acc += sum_t p[t] v_t over slots [from, to) for one query.
template <int C>
static inline void weigh_one(const float* p, const float* values, ptrdiff_t stride, int from, int to, Vec* acc) {
  for (int t = from; t < to; ++t) {
    const Vec x = splat(p[t]);
    for (int c = 0; c < C; ++c) acc[c] = fma(x, load(values + t * stride + c * kLanes), acc[c]);
  }
}

// out[i] = sum_t p[i][t] v_t over the slots [lo[i], hi[i]) query i sees, for Q queries and C Vecs of components.
// The slots all of them see share their loads; the few that only some see are added for those alone, because
// a weight of zero would not hide a NaN.
template <int Q, int C>
static inline void weigh_values(const float* const* p, const float* values, ptrdiff_t stride, const int* lo,
                                const int* hi, const float* inverse, float* const* out, int width) {
  Vec acc[Q][C];
  for (int i = 0; i < Q; ++i)
    for (int c = 0; c < C; ++c) acc[i][c] = zero();
  const int shared_lo = lo[Q - 1], shared_hi = hi[0] > shared_lo ? hi[0] : shared_lo;
  if constexpr (Q > 1) {
    for (int i = 0; i < Q; ++i)
      weigh_one<C>(p[i], values, stride, lo[i], hi[i] < shared_lo ? hi[i] : shared_lo, acc[i]);
  }
  for (int t = shared_lo; t < hi[0]; ++t) {
    Vec v[C];
    for (int c = 0; c < C; ++c) v[c] = load(values + t * stride + c * kLanes);
    for (int i = 0; i < Q; ++i) {
      const Vec x = splat(p[i][t]);
      for (int c = 0; c < C; ++c) acc[i][c] = fma(x, v[c], acc[i][c]);
    }
  }
  if constexpr (Q > 1) {
    for (int i = 0; i < Q; ++i) weigh_one<C>(p[i], values, stride, shared_hi, hi[i], acc[i]);
  }
  for (int i = 0; i < Q; ++i) {
    for (int c = 0; c < C; ++c) {
      const Vec v = acc[i][c] * splat(inverse[i]);
      const int left = width - c * kLanes;
      if (left >= kLanes) {
        store(out[i] + c * kLanes, v);
      } else if (left > 0) {
        store_n(out[i] + c * kLanes, v, left);
      }
    }
  }
}

template <int Q>
static void attention_tile(const AttentionHead* head, int first_query) {
  const int head_dim = head->head_dim;
  int lo[Q], hi[Q];
  for (int i = 0; i < Q; ++i) {
    lo[i] = visible_lo(head, first_query + i);
    hi[i] = head->last + first_query + i + 1;
  }
  const int begin = lo[0] / kLanes, end = (hi[Q - 1] + kLanes - 1) / kLanes;
  const ptrdiff_t row = static_cast<ptrdiff_t>(end - begin) * kLanes;

  const float* q[Q];
  float* scores[Q];
  for (int i = 0; i < Q; ++i) {
    q[i] = head->q + (first_query + i) * head->ldq;
    scores[i] = head->scores + i * row;
  }
  const ptrdiff_t block = static_cast<ptrdiff_t>(head_dim) * kLanes;
  constexpr int B = Q == 1 ? 4 : 2;
  int b = begin;
  for (; b + B <= end; b += B) {
    float* at[Q];
    for (int i = 0; i < Q; ++i) at[i] = scores[i] + (b - begin) * kLanes;
    score_blocks<Q, B>(q, head->keys + b * block, head_dim, head->scale, at);
  }
  for (; b < end; ++b) {
    float* at[Q];
    for (int i = 0; i < Q; ++i) at[i] = scores[i] + (b - begin) * kLanes;
    score_blocks<Q, 1>(q, head->keys + b * block, head_dim, head->scale, at);
  }

  float inverse[Q];
  const float* p[Q];
  float* out[Q];
  for (int i = 0; i < Q; ++i) {
    inverse[i] = 1.0f / softmax_row(scores[i], begin, end, lo[i], hi[i]);
    p[i] = scores[i] - static_cast<ptrdiff_t>(begin) * kLanes;
    out[i] = head->out + (first_query + i) * head->ldo;
  }
  const ptrdiff_t stride = (head_dim + kLanes - 1) / kLanes * kLanes;
  constexpr int C = kTileRows2 >= 8 ? 4 : Q == 1 ? 4 : 1;  // Vecs of components that fit the registers
  for (int d = 0; d < head_dim; d += C * kLanes) {
    float* at[Q];
    for (int i = 0; i < Q; ++i) at[i] = out[i] + d;
    const int left = head_dim - d;
    if (left > (C - 1) * kLanes) {
      weigh_values<Q, C>(p, head->values + d, stride, lo, hi, inverse, at, left);
    } else {
      for (int e = 0; e < left; e += kLanes) {
        float* one[Q];
        for (int i = 0; i < Q; ++i) one[i] = at[i] + e;
        weigh_values<Q, 1>(p, head->values + d + e, stride, lo, hi, inverse, one, left - e);
      }
    }
  }
}

static void attention_head(const AttentionHead* head) {
  int i = 0;
  for (; i + kAttentionTile <= head->queries; i += kAttentionTile) attention_tile<kAttentionTile>(head, i);
  for (; i < head->queries; ++i) attention_tile<1>(head, i);
}
