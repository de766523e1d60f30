#include "runtime/pair_list.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "runtime/failure.h"

namespace gaq {
namespace {

constexpr int64_t MAX_SIZE = int64_t(1) << 30;  // atoms or edges: places are 32 bits wide

std::string text(int64_t n) { return std::to_string(n); }

using Offset = std::array<double, 3>;

Offset offset_of(const double* offsets, int64_t edge) {
    if (!offsets) return {0.0, 0.0, 0.0};
    return {offsets[3 * edge], offsets[3 * edge + 1], offsets[3 * edge + 2]};
}

Offset negative(const Offset& o) { return {-o[0], -o[1], -o[2]}; }

// Edges in the order of their centers and neighbours, to look up one that has not been taken yet. Where many join the same
// two atoms, as images of a small cell do, they are sorted by offset as well.
class Edges {
public:
    Edges(int atoms, int64_t edges, const int64_t* centers, const int64_t* neighbours, const double* offsets)
        : order(size_t(edges)), centers_(centers), neighbours_(neighbours), offsets_(offsets), first_(size_t(atoms) + 1),
          taken_(size_t(edges), 0) {
        std::iota(order.begin(), order.end(), 0);
        const auto before = [&](int32_t a, int32_t b) {
            return centers[a] != centers[b] ? centers[a] < centers[b] : neighbours[a] < neighbours[b];
        };
        if (!std::is_sorted(order.begin(), order.end(), before)) std::stable_sort(order.begin(), order.end(), before);
        for (int64_t e = 0; e < edges; ++e) ++first_[size_t(centers[e]) + 1];
        std::partial_sum(first_.begin(), first_.end(), first_.begin());
        for (size_t begin = 0, end; begin < order.size(); begin = end) {
            for (end = begin + 1; end < order.size() && !before(order[begin], order[end]);) ++end;
            if (end - begin > LINEAR_SEARCH) sort_by_offset(begin, end);
        }
    }

    bool taken(int32_t e) const { return taken_[size_t(e)]; }
    void take(int32_t e) { taken_[size_t(e)] = 1; }
    Offset offset(int32_t e) const { return offset_of(offsets_, e); }

    // The first edge, in `order`, that joins the same atoms the other way and is not taken; -1 for none.
    int32_t reverse(int32_t e) {
        const int64_t i = centers_[e], j = neighbours_[e];
        const Offset back = negative(offset(e));
        const size_t end = size_t(first_[size_t(j) + 1]);
        size_t place = size_t(std::lower_bound(order.begin() + first_[size_t(j)], order.begin() + int64_t(end), i,
                                               [&](int32_t a, int64_t n) { return neighbours_[a] < n; }) -
                              order.begin());
        if (place + LINEAR_SEARCH < end && neighbours_[order[place + LINEAR_SEARCH]] == i)
            return reverse_of_many(place, end, i, back);
        for (; place < end && neighbours_[order[place]] == i; ++place)
            if (!taken(order[place]) && offset(order[place]) == back) return order[place];
        return -1;
    }

    std::vector<int32_t> order;

private:
    static constexpr size_t LINEAR_SEARCH = 16;  // edges between two atoms that are looked at one by one

    void sort_by_offset(size_t begin, size_t end) {
        if (sorted_.empty()) {
            sorted_ = order;
            next_.assign(order.size(), 0);
        }
        std::stable_sort(sorted_.begin() + int64_t(begin), sorted_.begin() + int64_t(end),
                         [&](int32_t a, int32_t b) { return offset(a) < offset(b); });
    }

    // From `place` on, where those with i begin. The first of equal ones knows where to go on looking.
    int32_t reverse_of_many(size_t place, size_t end, int64_t i, const Offset& back) {
        const auto found =
            std::lower_bound(sorted_.begin() + int64_t(place), sorted_.begin() + int64_t(end), back,
                             [&](int32_t a, const Offset& o) { return neighbours_[a] == i && offset(a) < o; });
        size_t n = size_t(found - sorted_.begin());
        if (n == end) return -1;
        int32_t& skipped = next_[n];
        for (n += size_t(skipped); n < end; ++n, ++skipped) {
            if (neighbours_[sorted_[n]] != i || offset(sorted_[n]) != back) return -1;
            if (!taken(sorted_[n])) return sorted_[n];
        }
        return -1;
    }

    const int64_t *centers_, *neighbours_;
    const double* offsets_;
    std::vector<int32_t> first_, sorted_, next_;
    std::vector<char> taken_;
};

void require_finite_offsets(const double* offsets, int64_t edges) {
    for (int64_t k = 0; offsets && k < 3 * edges; ++k)
        if (!std::isfinite(offsets[k]))
            throw Failure(GAQ_NOT_FINITE, "the offset of edge " + text(k / 3) + " is not finite");
}

bool is_zero(const Offset& o) { return o == Offset{0.0, 0.0, 0.0}; }

}  // namespace

PairList::PairList(const int32_t* index_of, int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers,
                   const int64_t* neighbours, const double* offsets) {
    if (atoms < 1 || atoms > MAX_SIZE) throw Failure(GAQ_BAD_ARGUMENT, "a graph has 1 to 2^30 atoms, not " + text(atoms));
    if (edges < 0 || edges > MAX_SIZE) throw Failure(GAQ_BAD_ARGUMENT, "a graph has 0 to 2^30 edges, not " + text(edges));
    if (!species || (edges && (!centers || !neighbours))) throw Failure(GAQ_BAD_ARGUMENT, "a graph's array is null");
    atoms_ = int(atoms);
    for (int64_t n = 0; n < atoms; ++n) {
        const int64_t z = species[n];
        if (z < 1 || z > MAX_NUMBER || index_of[z] < 0)
            throw Failure(GAQ_UNKNOWN_SPECIES, "the model does not know atomic number " + text(z) + " of atom " + text(n));
        species_.push_back(index_of[z]);
        numbers_.push_back(int32_t(z));
    }
    for (int64_t e = 0; e < edges; ++e)
        if (centers[e] < 0 || centers[e] >= atoms || neighbours[e] < 0 || neighbours[e] >= atoms)
            throw Failure(GAQ_BAD_ARGUMENT, "edge " + text(e) + " joins atoms " + text(centers[e]) + " and " +
                                                text(neighbours[e]) + " of " + text(atoms));
    require_finite_offsets(offsets, edges);
    centers_.assign(centers, centers + edges);
    neighbours_.assign(neighbours, neighbours + edges);
    find_pairs(offsets);
    make_blocks();
    make_rounds();
}

// Find for each edge its reverse; what has none stays a pair that acts one way only.
void PairList::find_pairs(const double* offsets) {
    Edges edges(atoms_, this->edges(), centers_.data(), neighbours_.data(), offsets);
    const auto add = [&](int32_t e, int32_t reverse) {
        const int32_t i = int32_t(centers_[size_t(e)]), j = int32_t(neighbours_[size_t(e)]);
        const Offset o = offset_of(offsets, e);
        int32_t place = -1;
        if (!is_zero(o)) {
            place = int32_t(offsets_.size() / 3);
            offsets_.insert(offsets_.end(), o.begin(), o.end());
        }
        paired_ = paired_ && reverse >= 0 && i != j;
        origins_.push_back({e, reverse, place});
        pairs_.push_back({i, j, reverse >= 0 ? 1.0f : 0.0f, place});
    };
    for (int pass = 0; pass < 2; ++pass)  // first the edges that go up, with their reverses; then what is left
        for (const int32_t e : edges.order) {
            if (edges.taken(e) || (pass == 0 && centers_[size_t(e)] > neighbours_[size_t(e)])) continue;
            edges.take(e);
            const int32_t reverse = edges.reverse(e);
            if (reverse >= 0) edges.take(reverse);
            add(e, reverse);
        }
}

// Where each edge of two atoms has a reverse of its own, the search takes them in the order of the edges alone, and each
// finds one with the negative of its offset, whichever that is: the pairs and their offsets are those of a new list.
bool PairList::replace_offsets(const double* offsets) {
    require_finite_offsets(offsets, edges());
    if (!paired_) return false;
    for (const Origin& pair : origins_) {
        const Offset o = offset_of(offsets, pair.edge);
        if (o != negative(offset_of(offsets, pair.reverse)) || is_zero(o) != (pair.offset < 0)) return false;
    }
    for (const Origin& pair : origins_)
        if (pair.offset >= 0) std::copy_n(offsets + 3 * int64_t(pair.edge), 3, offsets_.begin() + 3 * int64_t(pair.offset));
    return true;
}

PairList PairList::with_offsets(const int32_t* index_of, const double* offsets) const {
    const std::vector<int64_t> species(numbers_.begin(), numbers_.end());
    return {index_of, atoms_, species.data(), edges(), centers_.data(), neighbours_.data(), offsets};
}

// Make blocks: whole segments as long as they fit, and those that fit in none from a block of their own on.
void PairList::make_blocks() {
    std::vector<int32_t> joined(size_t(atoms_) + 1, 0);  // pairs that join what is before an atom with it or what follows
    for (const Pair& p : pairs_) {
        ++joined[size_t(std::min(p.i, p.j)) + 1];
        --joined[size_t(std::max(p.i, p.j)) + 1];
    }
    std::partial_sum(joined.begin(), joined.end(), joined.begin());
    block_.assign(1, 0);
    for (int32_t begin = 0, end; begin < atoms_; begin = end) {
        for (end = begin + 1; end < atoms_ && joined[size_t(end)];) ++end;
        if (end - block_.back() <= ATOM_BLOCK) continue;
        if (begin > block_.back()) block_.push_back(begin);
        while (end - block_.back() > ATOM_BLOCK) block_.push_back(block_.back() + ATOM_BLOCK);
    }
    block_.push_back(atoms_);
    for (size_t b = 0; b + 1 < block_.size(); ++b)
        block_of_.insert(block_of_.end(), size_t(block_[b + 1] - block_[b]), int32_t(b));
}

// Sort pairs into tasks by their blocks, and tasks greedily into rounds.
void PairList::make_rounds() {
    const auto key = [&](const Pair& p) {
        const int64_t a = block_of_[size_t(p.i)], b = block_of_[size_t(p.j)];
        return std::min(a, b) << 32 | std::max(a, b);
    };
    std::stable_sort(pairs_.begin(), pairs_.end(), [&](const Pair& a, const Pair& b) { return key(a) < key(b); });
    struct Found {
        int32_t begin, end, round;
    };
    std::vector<Found> found;
    std::vector<std::vector<char>> busy(block_.size() - 1);  // rounds in which a block is taken
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

Schedule PairList::schedule() const {
    return {atoms_,          int(pairs_.size()), int(block_.size()) - 1, int(tasks_.size()), int(round_.size()) - 1,
            species_.data(), numbers_.data(),    pairs_.data(),          offsets_.data(),    block_.data(),
            tasks_.data(),   round_.data()};
}

}  // namespace gaq
