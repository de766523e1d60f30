#include "plan.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "failure.h"

namespace gaq {
namespace {

constexpr int64_t MOST = int64_t(1) << 30;  // atoms or edges: places are 32 bits wide

std::string text(int64_t n) { return std::to_string(n); }

}  // namespace

Graph::Graph(const Model& model, int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers,
             const int64_t* neighbours, const double* offsets) {
    if (atoms < 1 || atoms > MOST) throw Failure(GAQ_BAD_ARGUMENT, "a graph has 1 to 2^30 atoms, not " + text(atoms));
    if (edges < 0 || edges > MOST) throw Failure(GAQ_BAD_ARGUMENT, "a graph has 0 to 2^30 edges, not " + text(edges));
    if (!species || (edges && (!centers || !neighbours))) throw Failure(GAQ_BAD_ARGUMENT, "a graph's array is null");
    atoms_ = int(atoms);
    for (int64_t n = 0; n < atoms; ++n) {
        const int64_t z = species[n];
        if (z < 1 || z > 118 || model.index_of[z] < 0)
            throw Failure(GAQ_UNKNOWN_SPECIES, "the model does not know atomic number " + text(z) + " of atom " + text(n));
        species_.push_back(model.index_of[z]);
        numbers_.push_back(int32_t(z));
    }
    for (int64_t e = 0; e < edges; ++e)
        if (centers[e] < 0 || centers[e] >= atoms || neighbours[e] < 0 || neighbours[e] >= atoms)
            throw Failure(GAQ_BAD_ARGUMENT, "edge " + text(e) + " joins atoms " + text(centers[e]) + " and " +
                                                text(neighbours[e]) + " of " + text(atoms));
    pair_up(edges, centers, neighbours, offsets);
    schedule();
}

// Find for each edge its reverse; what has none stays a pair that acts one way only.
void Graph::pair_up(int64_t edges, const int64_t* centers, const int64_t* neighbours, const double* offsets) {
    static const double none[3] = {0.0, 0.0, 0.0};
    const auto offset = [&](int64_t e) { return offsets ? offsets + 3 * e : none; };
    std::vector<int32_t> order(static_cast<size_t>(edges)), first(static_cast<size_t>(atoms_) + 1);
    std::iota(order.begin(), order.end(), 0);
    const auto before = [&](int32_t a, int32_t b) {
        return centers[a] != centers[b] ? centers[a] < centers[b] : neighbours[a] < neighbours[b];
    };
    if (!std::is_sorted(order.begin(), order.end(), before)) std::stable_sort(order.begin(), order.end(), before);
    for (int64_t e = 0; e < edges; ++e) ++first[size_t(centers[e]) + 1];
    std::partial_sum(first.begin(), first.end(), first.begin());
    std::vector<char> used(static_cast<size_t>(edges), 0);
    const auto reverse = [&](int32_t e) {
        const int64_t i = centers[e], j = neighbours[e];
        const auto begin = order.begin() + first[size_t(j)], end = order.begin() + first[size_t(j) + 1];
        auto found = std::lower_bound(begin, end, i, [&](int32_t a, int64_t n) { return neighbours[a] < n; });
        for (; found != end && neighbours[*found] == i; ++found) {
            const double *a = offset(e), *b = offset(*found);
            if (*found != e && !used[size_t(*found)] && a[0] == -b[0] && a[1] == -b[1] && a[2] == -b[2]) return *found;
        }
        return int32_t(-1);
    };
    const auto add = [&](int32_t e, float back) {
        const double* o = offset(e);
        int32_t place = -1;
        if (o[0] != 0.0 || o[1] != 0.0 || o[2] != 0.0) {
            place = int32_t(offsets_.size() / 3);
            offsets_.insert(offsets_.end(), o, o + 3);
        }
        pairs_.push_back({int32_t(centers[e]), int32_t(neighbours[e]), back, place});
    };
    for (int pass = 0; pass < 2; ++pass)  // first the edges that go up, with their reverses; then what is left
        for (int32_t e : order) {
            if (used[size_t(e)] || (pass == 0 && centers[e] > neighbours[e])) continue;
            used[size_t(e)] = 1;
            const int32_t back = reverse(e);
            if (back >= 0) used[size_t(back)] = 1;
            add(e, back >= 0 ? 1.0f : 0.0f);
        }
}

// Sort pairs into tasks by their blocks, and tasks greedily into rounds.
void Graph::schedule() {
    const auto key = [](const Pair& p) {
        const int64_t a = p.i / BLOCK, b = p.j / BLOCK;
        return std::min(a, b) << 32 | std::max(a, b);
    };
    std::stable_sort(pairs_.begin(), pairs_.end(), [&](const Pair& a, const Pair& b) { return key(a) < key(b); });
    struct Found { int32_t begin, end, round; };
    std::vector<Found> found;
    std::vector<std::vector<char>> busy(size_t((atoms_ + BLOCK - 1) / BLOCK));  // rounds in which a block is taken
    int rounds = 0;
    for (size_t p = 0; p < pairs_.size();) {
        const int64_t k = key(pairs_[p]);
        size_t end = p;
        while (end < pairs_.size() && key(pairs_[end]) == k) ++end;
        auto &a = busy[size_t(k >> 32)], &b = busy[size_t(k & 0xFFFFFFFF)];
        const auto taken = [](const std::vector<char>& rows, size_t r) { return r < rows.size() && rows[r]; };
        size_t r = 0;
        while (taken(a, r) || taken(b, r)) ++r;
        for (auto* rows : {&a, &b}) {
            if (rows->size() <= r) rows->resize(r + 1);
            (*rows)[r] = 1;
        }
        rounds = std::max(rounds, int(r) + 1);
        found.push_back({int32_t(p), int32_t(end), int32_t(r)});
        p = end;
    }
    std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.round < b.round; });
    round_.assign(size_t(rounds) + 1, 0);
    for (const Found& f : found) {
        tasks_.push_back({f.begin, f.end});
        ++round_[size_t(f.round) + 1];
    }
    std::partial_sum(round_.begin(), round_.end(), round_.begin());
}

Plan Graph::plan() const {
    return {atoms_, int(pairs_.size()), int(tasks_.size()), int(round_.size()) - 1, species_.data(), numbers_.data(),
            pairs_.data(), offsets_.data(), tasks_.data(), round_.data()};
}

}  // namespace gaq
