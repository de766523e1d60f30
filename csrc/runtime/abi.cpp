// The border: every function of the header, with exceptions turned into codes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "gemm/checks.h"
#include "runtime/dynamics.h"
#include "runtime/engine.h"
#include "runtime/failure.h"
#include "simd/arena.h"

namespace {

constexpr int MAX_THREADS = 256;

// Run `work`; give its failure as a code, and the reason to `report`.
template <class Work, class Tell>
gaq_status with_status(const Work& work, const Tell& report) noexcept {
    try {
        try {
            work();
            return GAQ_OK;
        } catch (const gaq::Failure& failure) {
            report(failure.what());
            return failure.status;
        } catch (const std::bad_alloc&) {
            report("not enough memory for this graph");
            return GAQ_NO_MEMORY;
        } catch (const std::length_error&) {
            report("not enough memory for this graph");
            return GAQ_NO_MEMORY;
        } catch (const std::exception& failure) {
            report(failure.what());
            return GAQ_INTERNAL;
        }
    } catch (...) {  // even the message found no memory
        return GAQ_INTERNAL;
    }
}

class CallGuard {  // of the one call at a time on an engine; false while another one is under way
public:
    explicit CallGuard(const gaq_engine& engine)
        : engine_(engine), entered_(!engine.busy.test_and_set(std::memory_order_acquire)) {}
    CallGuard(const CallGuard&) = delete;
    CallGuard& operator=(const CallGuard&) = delete;
    ~CallGuard() {
        if (entered_) engine_.busy.clear(std::memory_order_release);
    }
    explicit operator bool() const { return entered_; }

private:
    const gaq_engine& engine_;
    const bool entered_;
};

template <class Work>
gaq_status with_status(gaq_engine* engine, const Work& work) noexcept {
    if (!engine) return GAQ_BAD_ARGUMENT;
    const CallGuard call(*engine);
    if (!call) return GAQ_BUSY;
    return with_status(work, [&](const char* reason) { engine->message = reason; });
}

void require(bool holds, const char* rule) {
    if (!holds) throw gaq::Failure(GAQ_BAD_ARGUMENT, rule);
}

// Fill in as much of the caller's struct as both sides know, which its first member says; the rest is zero.
template <class Facts, class Find>
gaq_status fill(const gaq_engine* engine, Facts* given, const Find& find) noexcept {
    constexpr size_t LARGEST = 1 << 16;  // beyond lies a size that nobody has set
    if (!engine || !given || given->size < sizeof given->size || given->size > LARGEST) return GAQ_BAD_ARGUMENT;
    const CallGuard call(*engine);
    if (!call) return GAQ_BUSY;
    const uint64_t size = given->size;
    Facts found = find();
    found.size = size;
    std::memset(given, 0, size);
    std::memcpy(given, &found, std::min<size_t>(size, sizeof found));
    return GAQ_OK;
}

}  // namespace

extern "C" {

int gaq_abi_version(void) { return GAQ_ABI_VERSION; }

const char* gaq_best_isa(void) { return gaq::name_of(gaq::choose_isa(nullptr)); }

gaq_status gaq_engine_create(const void* blob, size_t bytes, const char* isa, int threads, gaq_engine** engine,
                             char* message, size_t capacity) {
    if (!engine) return GAQ_BAD_ARGUMENT;
    *engine = nullptr;
    return with_status(
        [&] {
            require(blob, "the blob is null");
            require(threads >= 1 && threads <= MAX_THREADS, "threads must be from 1 to 256");
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
    return fill(engine, facts, [&] { return engine->facts(); });
}

gaq_status gaq_engine_model_facts(const gaq_engine* engine, gaq_model_facts* facts) {
    return fill(engine, facts, [&] { return engine->model_facts(); });
}

gaq_status gaq_engine_set_graph(gaq_engine* engine, int64_t atoms, const int64_t* species, int64_t edges,
                                const int64_t* centers, const int64_t* neighbours, const double* offsets) {
    return with_status(engine, [&] { engine->set_graph(atoms, species, edges, centers, neighbours, offsets); });
}

gaq_status gaq_engine_set_offsets(gaq_engine* engine, int64_t edges, const double* offsets) {
    return with_status(engine, [&] { engine->set_offsets(edges, offsets); });
}

gaq_status gaq_engine_compute(gaq_engine* engine, const double* positions, double* energies, double* forces,
                              double* virials) {
    return with_status(engine, [&] { engine->compute(positions, energies, forces, virials); });
}

gaq_status gaq_engine_saturation(const gaq_engine* engine, uint64_t* clipped, uint64_t* seen) {
    if (!engine || !clipped || !seen) return GAQ_BAD_ARGUMENT;
    const CallGuard call(*engine);
    if (!call) return GAQ_BUSY;
    engine->saturation(clipped, seen);
    return GAQ_OK;
}

gaq_status gaq_engine_run(gaq_engine* engine, gaq_dynamics* dynamics, int64_t steps, const double* masses,
                          const int32_t* batch, int32_t structures, const double* reference, double* positions,
                          double* velocities, double* forces, double* potential, double* kinetic) {
    return with_status(engine, [&] {
        require(dynamics && masses && batch && reference && positions && velocities && forces && potential && kinetic,
                "an array is null");
        require(structures >= 1, "there must be at least one structure");
        require(steps >= 0, "steps must not be negative");
        gaq::run(*engine, *dynamics, steps,
                 {masses, batch, structures, reference, positions, velocities, forces, potential, kinetic});
    });
}

gaq_status gaq_measure_ceilings(const char* isa, gaq_ceilings* ceilings) {
    if (!ceilings) return GAQ_BAD_ARGUMENT;
    return with_status(
        [&] {
            const gaq::Checks& checks = gaq::checks_of(gaq::choose_isa(isa));
            gaq::Arena memory;
            const size_t count = size_t(1) << 24;
            const float* data = memory.take<float>(count);
            const auto rate = [&](gaq::Ceiling kind) {
                double best = 0.0;
                for (int repeat = 0; repeat < 5; ++repeat) {
                    const auto start = std::chrono::steady_clock::now();
                    const double done = checks.throughput(kind, kind == gaq::Ceiling::bandwidth ? 2 : 2000000, data, count);
                    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
                    best = std::max(best, 1e-9 * done / taken.count());
                }
                return best;
            };
            *ceilings = {rate(gaq::Ceiling::float32), rate(gaq::Ceiling::int16), rate(gaq::Ceiling::int8),
                         rate(gaq::Ceiling::bandwidth)};
        },
        [](const char*) {});
}

}  // extern "C"
