// Rotary embedding on interleaved pairs (2i, 2i+1) of each head.
#pragma once

static void rope_row(float* x, int heads, int head_dim, const float* cosine, const float* sine) {
  for (int h = 0; h < heads; ++h, x += head_dim) {
    for (int i = 0; i < head_dim / 2; ++i) {
      const float re = x[2 * i], im = x[2 * i + 1];
      x[2 * i] = re * cosine[i] - im * sine[i];
      x[2 * i + 1] = re * sine[i] + im * cosine[i];
    }
  }
}
