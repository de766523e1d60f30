// Takes blobs from standard input, each as its size (8 bytes) and its bytes, uses each in every instruction set, and
// answers with one line: a word for what became of it, and the memory of the process in kB. Built with sanitizers, which
// end the process at the first fault; `python -m tests.fuzz blobs --sanitized` makes the blobs.
#include <sys/resource.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "gaq_engine.h"

namespace {

struct Cluster {  // five atoms, all joined in both directions; the last edges with an offset, and one way only
    std::vector<int64_t> species, centers, neighbours;
    std::vector<double> x = {0, 0, 0, 1.1, 0, 0, 0, 1.2, 0.1, 0.1, 0, 1.3, 1.2, 1.1, 0.9}, offsets;
    explicit Cluster(const std::vector<int64_t>& known) {
        for (int64_t i = 0; i < 5; ++i) species.push_back(known[size_t(i) % known.size()]);
        for (int64_t i = 0; i < 5; ++i)
            for (int64_t j = 0; j < 5; ++j)
                if (i != j) join(i, j, 0);
        join(0, 1, -2.4), join(1, 0, 2.4), join(2, 2, 3.1), join(3, 4, 2.9);
    }
    void join(int64_t i, int64_t j, double along) {
        centers.push_back(i), neighbours.push_back(j);
        offsets.insert(offsets.end(), {along, 0, 0});
    }
};

[[noreturn]] void fail(const char* what, gaq_status status) {
    std::fprintf(stderr, "%s: status %d\n", what, int(status));
    std::abort();
}

bool finite(const std::vector<double>& values) {
    for (double v : values)
        if (!std::isfinite(v)) return false;
    return true;
}

std::vector<int64_t> known_species(gaq_engine* engine) {
    gaq_model_facts facts = {};
    facts.size = sizeof facts;
    if (gaq_engine_model_facts(engine, &facts) != GAQ_OK) fail("model_facts", GAQ_INTERNAL);
    return {facts.species, facts.species + facts.species_count};
}

// Compute, and go a few steps; return whether the results were finite.
bool use(gaq_engine* engine) {
    const std::vector<int64_t> known = known_species(engine);
    if (known.empty()) fail("an engine that knows no species", GAQ_OK);
    const Cluster c(known);
    std::vector<double> energies(5), forces(15), virials(45), x = c.x, v(15), masses(5, 12.0);
    const gaq_status set = gaq_engine_set_graph(engine, 5, c.species.data(), int64_t(c.centers.size()), c.centers.data(),
                                                c.neighbours.data(), c.offsets.data());
    if (set != GAQ_OK) fail("set_graph", set);
    const gaq_status status = gaq_engine_compute(engine, x.data(), energies.data(), forces.data(), virials.data());
    if (status == GAQ_NOT_FINITE || status == GAQ_OVERLAP) return false;
    if (status != GAQ_OK) fail("compute", status);
    if (!finite(energies) || !finite(forces)) fail("results that are not finite", status);
    const gaq_status moved = gaq_engine_set_offsets(engine, int64_t(c.centers.size()), c.offsets.data());
    if (moved != GAQ_OK) fail("set_offsets", moved);
    std::vector<int32_t> batch(5, 0);
    double potential = 0, kinetic = 0;
    gaq_dynamics d = {0.01, 0.1, 0.02, 1, 0, 0.3, 1e3};
    const gaq_status run = gaq_engine_run(engine, &d, 3, masses.data(), batch.data(), 1, c.x.data(), x.data(), v.data(),
                                          forces.data(), &potential, &kinetic);
    if (run != GAQ_OK && run != GAQ_NOT_FINITE && run != GAQ_OVERLAP) fail("run", run);
    if (run == GAQ_OK && !(finite(x) && finite(forces) && std::isfinite(potential) && std::isfinite(kinetic)))
        fail("dynamics that are not finite", run);
    return true;
}

const char* answer(const std::vector<char>& blob) {
    bool computed = true;
    for (const char* isa : {"scalar", "avx2", "avx512"}) {
        gaq_engine* engine = nullptr;
        char why[256] = "";
        const gaq_status status = gaq_engine_create(blob.data(), blob.size(), isa, 1, &engine, why, sizeof why);
        if (status == GAQ_NO_SUCH_ISA) continue;
        if (status == GAQ_BAD_BLOB) return "refused";
        if (status != GAQ_OK) fail(why, status);
        computed &= use(engine);
        gaq_engine_destroy(engine);
    }
    return computed ? "computed" : "overflowed";
}

}  // namespace

int main() {
    uint64_t bytes = 0;
    while (std::fread(&bytes, sizeof bytes, 1, stdin) == 1) {
        std::vector<char> blob(bytes);  // of its exact size, so that a sanitizer sees a read beyond its end
        if (bytes && std::fread(blob.data(), 1, bytes, stdin) != bytes) return 1;
        const char* word = answer(blob);
        rusage used;
        getrusage(RUSAGE_SELF, &used);
        std::printf("%s %ld\n", word, used.ru_maxrss);
        std::fflush(stdout);
    }
    return 0;
}
