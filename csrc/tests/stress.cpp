// Native tests for sanitizers: every instruction set, threads, dynamics and failures, on the blobs given.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gaq_engine.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what);
    ++failures;
}

struct Drop {  // a random drop, all pairs joined in both directions
    std::vector<int64_t> species, centers, neighbours;
    std::vector<double> x;
    explicit Drop(int atoms, unsigned seed, const std::vector<int64_t>& known) {
        std::mt19937 random(seed);
        const double edge = 1.8 * std::cbrt(double(atoms));
        std::uniform_real_distribution<double> place(0.0, edge);
        while (int(x.size()) < 3 * atoms) {
            const double p[3] = {place(random), place(random), place(random)};
            bool free = true;
            for (size_t k = 0; k < x.size(); k += 3)
                free &= std::hypot(x[k] - p[0], x[k + 1] - p[1], x[k + 2] - p[2]) > 1.0;
            if (free) x.insert(x.end(), p, p + 3);
        }
        for (int i = 0; i < atoms; ++i) species.push_back(known[random() % known.size()]);
        for (int i = 0; i < atoms; ++i)
            for (int j = 0; j < atoms; ++j)
                if (i != j) centers.push_back(i), neighbours.push_back(j);
    }
    gaq_status set(gaq_engine* e) const {
        return gaq_engine_set_graph(e, int64_t(species.size()), species.data(), int64_t(centers.size()), centers.data(),
                                    neighbours.data(), nullptr);
    }
};

gaq_engine* make(const std::vector<char>& blob, const char* isa, int threads, gaq_status* status = nullptr) {
    gaq_engine* engine = nullptr;
    char why[256] = "";
    const gaq_status found = gaq_engine_create(blob.data(), blob.size(), isa, threads, &engine, why, sizeof why);
    if (status) *status = found;
    return engine;
}

std::vector<int64_t> known_species(const std::vector<char>& blob) {
    gaq_engine* e = make(blob, "scalar", 1);
    gaq_model_facts facts = {};
    facts.size = sizeof facts;
    if (!e || gaq_engine_model_facts(e, &facts) != GAQ_OK) return {};
    gaq_engine_destroy(e);
    return {facts.species, facts.species + facts.species_count};
}

// Facts for callers that know less, and more, than the library.
void facts(const std::vector<char>& blob, const std::vector<int64_t>& known) {
    gaq_engine* e = make(blob, nullptr, 2);
    struct {
        gaq_model_facts model;
        double later;
    } longer = {};
    longer.later = 1.0;
    longer.model.size = sizeof longer;
    expect(gaq_engine_model_facts(e, &longer.model) == GAQ_OK && longer.later == 0.0,
           "what the library does not know is zero");
    const gaq_model_facts& model = longer.model;
    expect(!std::strcmp(model.kind, "transformer") && model.hops >= 1 && model.cutoff >= 1 && !model.takes_charge,
           "a model has a kind, hops and a cutoff");
    for (int64_t z = 1; z <= GAQ_MAX_SPECIES; ++z) {
        const bool knows = std::find(known.begin(), known.end(), z) != known.end();
        expect((gaq_engine_set_graph(e, 1, &z, 0, nullptr, nullptr, nullptr) == GAQ_OK) == knows,
               "species are those of the facts");
    }
    gaq_facts shorter = {};
    shorter.size = offsetof(gaq_facts, quantizers);
    shorter.quantizers = -5;
    expect(gaq_engine_facts(e, &shorter) == GAQ_OK && shorter.threads == 2 && shorter.quantizers == -5,
           "no more is written than the caller has room for");
    for (const uint64_t size : {uint64_t(0), uint64_t(7), ~uint64_t(0)}) {
        shorter.size = size;
        expect(gaq_engine_facts(e, &shorter) == GAQ_BAD_ARGUMENT, "a size of no struct is refused");
    }
    gaq_engine_destroy(e);
}

void compute(const std::vector<char>& blob, const std::vector<int64_t>& known) {
    for (int atoms : {1, 2, 9, 33, 70}) {
        const Drop drop(atoms, unsigned(atoms), known);
        std::vector<double> first;
        for (const char* isa : {"scalar", "avx2", "avx512"})
            for (int threads : {1, 3}) {
                gaq_status status;
                gaq_engine* e = make(blob, isa, threads, &status);
                if (status == GAQ_NO_SUCH_ISA) continue;
                expect(e && drop.set(e) == GAQ_OK, "an engine takes a graph");
                std::vector<double> energy(atoms), force(3 * atoms), virial(9 * atoms);
                expect(gaq_engine_compute(e, drop.x.data(), energy.data(), force.data(), virial.data()) == GAQ_OK,
                       "compute");
                if (first.empty()) first = force;
                for (int k = 0; k < 3 * atoms; ++k)
                    expect(std::fabs(force[k] - first[k]) < 0.05 * (1 + std::fabs(first[k])), "instruction sets agree");
                std::vector<double> bad = drop.x;
                bad[0] = NAN;
                expect(gaq_engine_compute(e, bad.data(), energy.data(), nullptr, nullptr) == GAQ_NOT_FINITE,
                       "NaN is refused");
                std::vector<double> x = drop.x, v(3 * atoms), masses(atoms, 12.0);
                std::vector<int32_t> batch(atoms);
                double potential = 0, kinetic = 0;
                gaq_dynamics d = {0.01, 0.1, 0.02, 1, 0, 0.3, 1e3};
                expect(gaq_engine_run(e, &d, 5, masses.data(), batch.data(), 1, drop.x.data(), x.data(), v.data(),
                                      force.data(), &potential, &kinetic) == GAQ_OK,
                       "dynamics");
                gaq_engine_destroy(e);
            }
    }
}

// However near two atoms are, they are driven apart by finite forces; nearer than the tables begin, they are at one place.
void approach(const std::vector<char>& blob, const std::vector<int64_t>& known) {
    for (const char* isa : {"scalar", "avx2", "avx512"}) {
        gaq_status status;
        gaq_engine* e = make(blob, isa, 1, &status);
        if (status == GAQ_NO_SUCH_ISA) continue;
        for (int64_t z : known) {
            const int64_t species[2] = {known[0], z}, centers[2] = {0, 1}, neighbours[2] = {1, 0};
            expect(gaq_engine_set_graph(e, 2, species, 2, centers, neighbours, nullptr) == GAQ_OK, "a pair is a graph");
            double before = INFINITY;
            for (double r = 0.051; r < 0.5; r *= 1.1) {
                const double x[6] = {0, 0, 0, 0.6 * r, 0, 0.8 * r};
                double energy[2], force[6], virial[18];
                expect(gaq_engine_compute(e, x, energy, force, virial) == GAQ_OK, "a near pair has an energy");
                expect(force[3] > 0 && force[5] > 0 && force[0] < 0, "near atoms are driven apart");
                expect(energy[0] + energy[1] < before, "the energy falls as atoms part");
                before = energy[0] + energy[1];
            }
            const double x[6] = {0, 0, 0, 0.04, 0, 0};
            double energy[2];
            expect(gaq_engine_compute(e, x, energy, nullptr, nullptr) == GAQ_OVERLAP, "atoms at one place are refused");
        }
        gaq_engine_destroy(e);
    }
}

struct Results {
    std::vector<double> energy, force, virial;
    Results(gaq_engine* e, const std::vector<double>& x) : energy(x.size() / 3), force(x.size()), virial(3 * x.size()) {
        expect(gaq_engine_compute(e, x.data(), energy.data(), force.data(), virial.data()) == GAQ_OK, "compute");
    }
    bool operator==(const Results& other) const {
        return energy == other.energy && force == other.force && virial == other.virial;
    }
};

// Offsets changed have the bits of a graph set anew, with images of the same atom and edges of one direction too.
void offsets(const std::vector<char>& blob, const std::vector<int64_t>& known) {
    Drop drop(20, 5, known);
    std::vector<double> shifts(3 * drop.centers.size(), 0.0);
    const auto join = [&](int64_t i, int64_t j, double along) {
        drop.centers.push_back(i), drop.neighbours.push_back(j);
        for (const double s : {along, 0.0, 0.5 * along}) shifts.push_back(s);
    };
    join(0, 5, 1.0), join(5, 0, -1.0), join(3, 19, -1.0), join(19, 3, 1.0);
    for (const int kind : {0, 1, 2}) {
        if (kind == 1) join(4, 4, 1.0), join(4, 4, -1.0);
        if (kind == 2) join(6, 7, 1.0);
        gaq_engine *changed = make(blob, nullptr, 1), *anew = make(blob, nullptr, 1);
        const auto cell = [&](double length) {
            std::vector<double> o = shifts;
            for (double& value : o) value *= length;
            return o;
        };
        const auto set = [&](gaq_engine* e, const std::vector<double>& o) {
            return gaq_engine_set_graph(e, 20, drop.species.data(), int64_t(drop.centers.size()), drop.centers.data(),
                                        drop.neighbours.data(), o.data());
        };
        const int64_t edges = int64_t(drop.centers.size());
        expect(gaq_engine_set_offsets(changed, edges, shifts.data()) == GAQ_BAD_ARGUMENT, "offsets need a graph");
        expect(set(changed, cell(3.0)) == GAQ_OK, "an engine takes a graph");
        for (const double length : {3.1, 2.7, kind ? 2.9 : 0.0, 3.0}) {  // at 0, images of one atom would lie on each other
            const std::vector<double> o = cell(length);
            expect(gaq_engine_set_offsets(changed, edges, o.data()) == GAQ_OK && set(anew, o) == GAQ_OK, "offsets are set");
            expect(Results(changed, drop.x) == Results(anew, drop.x), "offsets changed are as a graph set anew");
        }
        const Results before(changed, drop.x);
        std::vector<double> bad = cell(3.0);
        bad[1] = NAN;
        expect(gaq_engine_set_offsets(changed, edges, bad.data()) == GAQ_NOT_FINITE, "offsets must be finite");
        expect(gaq_engine_set_offsets(changed, edges - 1, bad.data()) == GAQ_BAD_ARGUMENT, "offsets are of all edges");
        expect(Results(changed, drop.x) == before, "a failure changes nothing");
        gaq_engine_destroy(changed);
        gaq_engine_destroy(anew);
    }
}

// Threads on one engine, which takes one call at a time, and on engines of their own.
void threads(const std::vector<char>& blob, const std::vector<int64_t>& known) {
    const Drop drop(70, 3, known);
    gaq_engine *shared = make(blob, nullptr, 2), *first = make(blob, nullptr, 1);
    std::vector<double> expected(210);
    expect(drop.set(first) == GAQ_OK && drop.set(shared) == GAQ_OK, "engines take a graph");
    expect(gaq_engine_compute(first, drop.x.data(), nullptr, expected.data(), nullptr) == GAQ_OK, "compute");
    std::atomic<int> wrong{0}, done{0};
    const auto work = [&](gaq_engine* engine) {
        std::vector<double> force(210);
        for (int n = 0; n < 10; ++n) {
            gaq_facts found = {};
            found.size = sizeof found;
            gaq_engine_facts(engine, &found);
            const gaq_status status = gaq_engine_compute(engine, drop.x.data(), nullptr, force.data(), nullptr);
            if (status == GAQ_OK) ++done;
            wrong += status == GAQ_OK ? force != expected : status != GAQ_BUSY;
        }
    };
    std::vector<std::thread> all;
    for (int n = 0; n < 3; ++n) all.emplace_back(work, shared);
    for (int n = 0; n < 2; ++n)
        all.emplace_back([&] {
            gaq_engine* own = make(blob, nullptr, 2);
            if (drop.set(own) != GAQ_OK) ++wrong;
            work(own);
            gaq_engine_destroy(own);
        });
    for (std::thread& thread : all) thread.join();
    expect(!wrong && done > 20, "threads get the result of one, or are told to wait");
    gaq_engine_destroy(shared);
    gaq_engine_destroy(first);
}

// A failure within a run leaves the last whole step.
void failing_run(const std::vector<char>& blob, const std::vector<int64_t>& known) {
    const Drop drop(9, 4, known);
    gaq_engine* e = make(blob, nullptr, 1);
    expect(e && drop.set(e) == GAQ_OK, "an engine takes a graph");
    std::vector<double> x = drop.x, v(27, 0.0), force(27, 0.0), masses(9, 12.0);
    for (int k = 0; k < 3; ++k) v[k] = (x[3 + k] - x[k]) / 1e-3;  // onto another atom
    const std::vector<double> before[3] = {x, v, force};
    std::vector<int32_t> batch(9);
    double potential = 0, kinetic = 0;
    gaq_dynamics d = {1e-3, 0, 0, 1, 0, 1e300, 1e300};
    expect(gaq_engine_run(e, &d, 5, masses.data(), batch.data(), 1, drop.x.data(), x.data(), v.data(), force.data(),
                          &potential, &kinetic) != GAQ_OK,
           "atoms at one place end a run");
    expect(d.step == 0 && x == before[0] && v == before[1] && force == before[2], "a failing step is taken back");
    gaq_engine_destroy(e);
}

}  // namespace

int main(int argc, char** argv) {
    for (int a = 1; a < argc; ++a) {
        std::ifstream file(argv[a], std::ios::binary);
        const std::vector<char> blob((std::istreambuf_iterator<char>(file)), {});
        const std::vector<int64_t> known = known_species(blob);
        expect(!known.empty(), "the blob is read");
        if (known.empty()) break;
        facts(blob, known);
        compute(blob, known);
        offsets(blob, known);
        approach(blob, known);
        threads(blob, known);
        failing_run(blob, known);
    }
    std::printf(failures || argc < 2 ? "%d failures\n" : "ok\n", failures);
    return failures || argc < 2;
}
