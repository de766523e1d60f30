// The border: every function of the header, with exceptions turned into codes.
#include <chrono>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <system_error>

#include "dynamics.h"
#include "engine.h"
#include "failure.h"

namespace {

constexpr int MOST_THREADS = 256;

// Run `work`; give its failure as a code, and the reason to `tell`.
template <class Work, class Tell>
gaq_status guarded(const Work& work, const Tell& tell) noexcept {
    try {
        try {
            work();
            return GAQ_OK;
        } catch (const gaq::Failure& failure) {
            tell(failure.what());
            return failure.status;
        } catch (const std::bad_alloc&) {
            tell("not enough memory for this graph");
            return GAQ_NO_MEMORY;
        } catch (const std::length_error&) {
            tell("not enough memory for this graph");
            return GAQ_NO_MEMORY;
        } catch (const std::exception& failure) {
            tell(failure.what());
            return GAQ_INTERNAL;
        }
    } catch (...) {  // even the message found no memory
        return GAQ_INTERNAL;
    }
}

class Turn {                       // of a call on an engine; false while another one has it
public:
    explicit Turn(const gaq_engine& engine) : engine_(engine), mine_(!engine.busy.test_and_set(std::memory_order_acquire)) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
        if (mine_) engine_.busy.clear(std::memory_order_release);
    }
    explicit operator bool() const { return mine_; }

private:
    const gaq_engine& engine_;
    const bool mine_;
};

template <class Work>
gaq_status guarded(gaq_engine* engine, const Work& work) noexcept {
    if (!engine) return GAQ_BAD_ARGUMENT;
    const Turn turn(*engine);
    if (!turn) return GAQ_BUSY;
    return guarded(work, [&](const char* reason) { engine->message = reason; });
}

void require(bool holds, const char* rule) {
    if (!holds) throw gaq::Failure(GAQ_BAD_ARGUMENT, rule);
}

}  // namespace

extern "C" {

int gaq_abi_version(void) { return GAQ_ABI_VERSION; }

const char* gaq_best_isa(void) { return gaq::choose_kernels(nullptr).name; }

gaq_status gaq_engine_create(const void* blob, size_t bytes, const char* isa, int threads, gaq_engine** engine,
                             char* message, size_t capacity) {
    if (!engine) return GAQ_BAD_ARGUMENT;
    *engine = nullptr;
    return guarded(
        [&] {
            require(blob, "the blob is null");
            require(threads >= 1 && threads <= MOST_THREADS, "threads must be from 1 to 256");
            *engine = new gaq_engine(blob, bytes, isa, threads);
        },
        [&](const char* reason) {
            if (message && capacity) std::snprintf(message, capacity, "%s", reason);
        });
}

void gaq_engine_destroy(gaq_engine* engine) {
    if (engine && !engine->busy.test_and_set(std::memory_order_acquire)) delete engine;
}

const char* gaq_engine_message(const gaq_engine* engine) { return engine ? engine->message.c_str() : "no engine"; }

gaq_status gaq_engine_facts(const gaq_engine* engine, gaq_facts* facts) {
    if (!engine || !facts) return GAQ_BAD_ARGUMENT;
    const Turn turn(*engine);
    if (!turn) return GAQ_BUSY;
    *facts = engine->facts();
    return GAQ_OK;
}

gaq_status gaq_engine_set_graph(gaq_engine* engine, int64_t atoms, const int64_t* species, int64_t edges,
                                const int64_t* centers, const int64_t* neighbours, const double* offsets) {
    return guarded(engine, [&] { engine->set_graph(atoms, species, edges, centers, neighbours, offsets); });
}

gaq_status gaq_engine_compute(gaq_engine* engine, const double* positions, double* energies, double* forces,
                              double* virials) {
    return guarded(engine, [&] { engine->compute(positions, energies, forces, virials); });
}

gaq_status gaq_engine_saturation(const gaq_engine* engine, uint64_t* clipped, uint64_t* seen) {
    if (!engine || !clipped || !seen) return GAQ_BAD_ARGUMENT;
    const Turn turn(*engine);
    if (!turn) return GAQ_BUSY;
    engine->saturation(clipped, seen);
    return GAQ_OK;
}

gaq_status gaq_engine_run(gaq_engine* engine, gaq_dynamics* dynamics, int64_t steps, const double* masses,
                          const int32_t* batch, int32_t structures, const double* reference, double* positions,
                          double* velocities, double* forces, double* potential, double* kinetic) {
    return guarded(engine, [&] {
        require(dynamics && masses && batch && reference && positions && velocities && forces && potential && kinetic,
                "an array is null");
        require(structures >= 1, "there must be at least one structure");
        require(steps >= 0, "steps must not be negative");
        gaq::run(*engine, *dynamics, steps, masses, batch, structures, reference, positions, velocities, forces, potential,
                 kinetic);
    });
}

gaq_status gaq_measure_ceilings(const char* isa, gaq_ceilings* ceilings) {
    if (!ceilings) return GAQ_BAD_ARGUMENT;
    return guarded(
        [&] {
            const gaq::Kernels& kernels = gaq::choose_kernels(isa);
            gaq::Arena memory;
            const size_t count = size_t(1) << 24;
            const float* data = memory.take<float>(count);
            const auto rate = [&](int kind) {
                double best = 0.0;
                for (int repeat = 0; repeat < 5; ++repeat) {
                    const auto start = std::chrono::steady_clock::now();
                    const double done = kernels.burn(kind, kind == 3 ? 2 : 2000000, data, count);
                    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
                    best = std::max(best, 1e-9 * done / taken.count());
                }
                return best;
            };
            *ceilings = {rate(0), rate(1), rate(2), rate(3)};
        },
        [](const char*) {});
}

}  // extern "C"
