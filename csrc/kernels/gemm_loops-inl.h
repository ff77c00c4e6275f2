// The loops over panels and rows, shared by the tiles of all precisions. A Tile has:
//   Weight, kDepthStep            element of a packed panel; the depth is padded to a multiple of the step
//   kRows1, kRows2                most rows of a tile one and two Vecs wide
//   run<R, V>(...)                R rows times V Vecs of one panel
//   two_panels(...)               one row times two whole panels
#pragma once

// Calls the tile with `rows` rows (1 <= rows <= R).
template <typename Tile, int R, int V>
static inline void run_tile(int rows, const GemmSegment* segment, int row, const PackedView* packed,
                            const typename Tile::Weight* panel, int col, int width, const Epilogue* epilogue) {
  if constexpr (R > 1) {
    if (rows < R) {
      run_tile<Tile, R - 1, V>(rows, segment, row, packed, panel, col, width, epilogue);
      return;
    }
  }
  Tile::template run<R, V>(segment, row, packed, panel, col, width, epilogue);
}

template <typename Tile, int R, int V>
static void gemm_panel(const GemmSegment* segment, int row_begin, int row_end, const PackedView* packed,
                       const typename Tile::Weight* panel, int col, int width, const Epilogue* epilogue) {
  // Even tiles: 16 rows as 8 + 8 keep more chains busy than 12 + 4.
  const int rows = row_end - row_begin;
  const int tiles = (rows + R - 1) / R;
  int row = row_begin;
  for (int t = 0; t < tiles; ++t) {
    const int take = rows / tiles + (t < rows % tiles ? 1 : 0);
    run_tile<Tile, R, V>(take, segment, row, packed, panel, col, width, epilogue);
    row += take;
  }
}

template <typename Tile>
static void gemm_rows(const GemmSegment* segment, int row_begin, int row_end, const PackedView* packed, int panel_begin,
                      int panel_end, const Epilogue* epilogue) {
  const ptrdiff_t depth = (packed->depth + Tile::kDepthStep - 1) / Tile::kDepthStep * Tile::kDepthStep;
  for (int panel = panel_begin; panel < panel_end; ++panel) {
    const int col = panel * kPanel;
    const int left = packed->cols - col;
    const typename Tile::Weight* w = static_cast<const typename Tile::Weight*>(packed->data) + col * depth;
    if (left <= kHalfPanel) {
      gemm_panel<Tile, Tile::kRows1, 1>(segment, row_begin, row_end, packed, w, col, left, epilogue);
    } else if (row_end - row_begin == 1 && panel + 1 < panel_end && left > kPanel + kHalfPanel) {
      Tile::two_panels(segment, row_begin, packed, w, col, left < 2 * kPanel ? left : 2 * kPanel, epilogue);
      ++panel;
    } else {
      gemm_panel<Tile, Tile::kRows2, 2>(segment, row_begin, row_end, packed, w, col, left < kPanel ? left : kPanel,
                                        epilogue);
    }
  }
}
