// Pairs found among directed edges against a plain search, and offsets replaced against a list made anew.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "runtime/pair_list.h"

using namespace gaq;

namespace {

int failures = 0;
std::mt19937 source(1);

void expect(bool holds, const char* what) {
    if (!holds && ++failures < 20) std::printf("FAILED: %s\n", what);
}

int draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(source); }

struct Edges {
    std::vector<int64_t> species, i, j;
    std::vector<double> offsets;

    void add(int64_t center, int64_t neighbour, const double* o) {
        i.push_back(center), j.push_back(neighbour);
        offsets.insert(offsets.end(), o, o + 3);
    }

    PairList list(const std::vector<double>& given) const {
        static const int32_t index_of[MAX_NUMBER + 1] = {};
        return {index_of, int64_t(species.size()), species.data(), int64_t(i.size()), i.data(), j.data(), given.data()};
    }
};

bool opposite(const double* a, const double* b) { return a[0] == -b[0] && a[1] == -b[1] && a[2] == -b[2]; }

// Pairs of edges and their reverses, found by looking at all edges for each; `offset` is that of an edge.
std::vector<Pair> searched(const Edges& edges) {
    const std::vector<int64_t>&i = edges.i, &j = edges.j;
    std::vector<size_t> order(i.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return std::make_pair(i[a], j[a]) < std::make_pair(i[b], j[b]); });
    std::vector<char> used(i.size());
    std::vector<Pair> pairs;
    for (int pass = 0; pass < 2; ++pass)
        for (const size_t e : order) {
            if (used[e] || (pass == 0 && i[e] > j[e])) continue;
            used[e] = 1;
            const auto reverse = std::find_if(order.begin(), order.end(), [&](size_t f) {
                return !used[f] && i[f] == j[e] && j[f] == i[e] && opposite(&edges.offsets[3 * f], &edges.offsets[3 * e]);
            });
            if (reverse != order.end()) used[*reverse] = 1;
            pairs.push_back({int32_t(i[e]), int32_t(j[e]), reverse == order.end() ? 0.0f : 1.0f, int32_t(e)});
        }
    return pairs;
}

void pairing() {
    for (int trial = 0; trial < 60; ++trial) {
        Edges edges;
        const int atoms = draw(1, 4), reach = 1 + trial % 3;
        edges.species.assign(size_t(atoms), 6);
        for (int n = draw(0, 300); n; --n) {
            const double o[3] = {double(draw(-reach, reach)), double(draw(-reach, reach)), double(draw(-reach, reach))};
            edges.add(draw(0, atoms - 1), draw(0, atoms - 1), o);
        }
        const PairList list = edges.list(edges.offsets);
        const Schedule schedule = list.schedule();
        const std::vector<Pair> expected = searched(edges);
        expect(schedule.pairs == int(expected.size()) && schedule.blocks == 1, "pairs are all found");
        for (int p = 0; p < schedule.pairs && p < int(expected.size()); ++p) {
            const Pair &a = schedule.pair[p], &b = expected[size_t(p)];
            bool same = a.i == b.i && a.j == b.j && a.back == b.back;
            for (int k = 0; k < 3; ++k)
                same &= (a.offset < 0 ? 0 : schedule.offsets[3 * a.offset + k]) == edges.offsets[size_t(3 * b.offset + k)];
            expect(same, "pairs are those of the plain search, in their order");
        }
    }
}

template <class T>
bool same_bytes(const T* a, const T* b, int count) {
    return !count || !std::memcmp(a, b, size_t(count) * sizeof(T));
}

bool same(const Schedule& a, const Schedule& b) {
    bool equal = a.atoms == b.atoms && a.pairs == b.pairs && a.blocks == b.blocks && a.tasks == b.tasks &&
                 a.rounds == b.rounds && same_bytes(a.task, b.task, a.tasks) && same_bytes(a.round, b.round, a.rounds + 1);
    for (int p = 0; equal && p < a.pairs; ++p) {
        const Pair &x = a.pair[p], &y = b.pair[p];
        equal = x.i == y.i && x.j == y.j && x.back == y.back && (x.offset < 0) == (y.offset < 0) &&
                (x.offset < 0 || same_bytes(a.offsets + 3 * x.offset, b.offsets + 3 * y.offset, 3));
    }
    return equal;
}

// Images of a few atoms, and the same under other cells: also flat ones, in which different images have one offset.
void replacing() {
    int replaced = 0;
    for (int trial = 0; trial < 400; ++trial) {
        Edges edges;
        const int atoms = draw(2, 80);
        const bool loops = trial % 5 == 0, one_way = trial % 7 == 0;
        edges.species.assign(size_t(atoms), 6);
        for (int n = draw(1, 400); n; --n) {
            const int i = draw(0, atoms - 1), j = draw(0, atoms - 1);
            if (i == j && !loops) continue;
            const double shift[3] = {double(draw(-1, 1)), double(draw(-1, 1)), double(draw(-1, 1))};
            if (i == j && shift[0] == 0 && shift[1] == 0 && shift[2] == 0) continue;
            const double back[3] = {-shift[0], -shift[1], -shift[2]};
            edges.add(i, j, shift);
            if (!one_way || draw(0, 3)) edges.add(j, i, back);
        }
        const bool flat = trial % 3 == 0;
        std::vector<double> other = edges.offsets;
        for (size_t k = 0; k < other.size(); ++k) other[k] *= k % 3 == 2 && flat ? 0.0 : 0.7 + 0.1 * double(k % 3);
        PairList list = edges.list(edges.offsets);
        const PairList before = list, anew = edges.list(other);
        const bool taken = list.replace_offsets(other.data());
        replaced += taken;
        expect(taken || flat || loops || one_way, "offsets of ordinary images are replaced");
        expect(same(list.schedule(), taken ? anew.schedule() : before.schedule()), "offsets are replaced, or nothing is");
        static const int32_t index_of[MAX_NUMBER + 1] = {};
        expect(same(before.with_offsets(index_of, other.data()).schedule(), anew.schedule()),
               "a list made anew is the same");
    }
    expect(replaced > 150, "offsets are mostly replaced in place");
}

}  // namespace

int main() {
    pairing();
    replacing();
    std::printf(failures ? "%d failures\n" : "ok\n", failures);
    return failures != 0;
}
