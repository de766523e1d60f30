#include "engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"
#include "repulsion.h"

namespace gaq {
namespace {

constexpr int ALONE = 48;          // atoms up to which other threads would cost more than they give
constexpr size_t KEPT = 1 << 20;    // bytes of filters that are kept for the backward pass: what a second-level cache has room for

bool has_avx2() {
#if defined(GAQ_HAS_X86)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

bool has_avx512() {
#if defined(GAQ_HAS_X86)
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

void require_finite(const char* name, const double* values, size_t atoms, size_t each) {
    for (size_t n = 0; n < atoms * each; ++n)
        if (!std::isfinite(values[n]))
            throw Failure(GAQ_NOT_FINITE, std::string(name) + " of atom " + std::to_string(n / each) + " is not finite");
}

}  // namespace

const Kernels& choose_kernels(const char* name) {
#if defined(GAQ_HAS_X86)
    if (!name || !*name) return has_avx512() ? avx512_kernels : has_avx2() ? avx2_kernels : scalar_kernels;
    if (!std::strcmp(name, "avx512") && has_avx512()) return avx512_kernels;
    if (!std::strcmp(name, "avx2") && has_avx2()) return avx2_kernels;
#endif
    if (!name || !*name || !std::strcmp(name, "scalar")) return scalar_kernels;
    throw Failure(GAQ_NO_SUCH_ISA, std::string("instruction set '") + name + "' is not available here; take 'scalar'" +
                                       (has_avx2() ? ", 'avx2'" : "") + (has_avx512() ? ", 'avx512'" : ""));
}

Engine::Engine(const void* blob, size_t bytes, const char* isa, int threads)
    : kernels_(choose_kernels(isa)), crew_(threads) {
    if (!kernels_.works())
        throw Failure(GAQ_BROKEN_MACHINE, std::string("the self-test of instruction set '") + kernels_.name +
                                              "' found wrong products; choose another one");
    std::vector<uint64_t> aligned;  // arrays are read in place
    if (reinterpret_cast<uintptr_t>(blob) % 8) {
        aligned.resize((bytes + 7) / 8);
        std::memcpy(aligned.data(), blob, bytes);
        blob = aligned.data();
    }
    model_ = read_model(Blob(blob, bytes), model_memory_, sizes_);
    for (int n = 0; n < threads; ++n) scratch_.push_back(scratch());
    layers_.resize(size_t(model_.shape.T) + 1);
}

Scratch Engine::scratch() {
    const Shape& s = model_.shape;
    const size_t rows = size_t(BLOCK) * (2 * s.L + 1);
    const size_t vectors = std::max(rows * std::max(2 * s.Cp, s.Hp), size_t(BLOCK) * s.M * s.Cp);
    const size_t most = std::max(vectors, size_t(BLOCK) * (2 * s.Fp + s.G)) + size_t(s.W);
    Arena& a = scratch_memory_;
    Scratch z{};
    z.narrow = a.take<int8_t>(most);
    z.wide = a.take<int16_t>(most);
    z.sum = a.take<int32_t>(rows);
    z.decoded = a.take<float>(size_t(std::max(s.Fp + s.G, 2 * s.Cp)) * 2 * LANES);  // two groups of outputs of the longest map
    for (float** buffer : {&z.rows, &z.more, &z.a, &z.b, &z.c, &z.d}) *buffer = a.take<float>(most);
    z.filter = a.take<float>(size_t(TOGETHER) * s.W);
    z.by_filter = a.take<float>(s.W);
    z.small = a.take<float>(size_t(TOGETHER * (s.L + 5) + s.L) * s.Hp + LANES);
    z.clipped = a.take<uint64_t>(std::max(model_.quantizers, 1));
    z.seen = a.take<uint64_t>(std::max(model_.quantizers, 1));
    return z;
}

void Engine::set_graph(int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers,
                       const int64_t* neighbours, const double* offsets) {
    auto graph = std::make_unique<Graph>(model_, atoms, species, edges, centers, neighbours, offsets);
    graph_.reset();  // whatever fails from here on leaves no graph
    const Plan plan = graph->plan();
    if (plan.atoms > atom_room_ || plan.pairs > pair_room_ || plan.tasks > task_room_) {
        workspace_.clear();
        atom_room_ = pair_room_ = task_room_ = 0;
        const int pairs = plan.pairs + plan.pairs / 8, tasks = plan.tasks + plan.tasks / 4;  // the next list may be longer
        allocate(plan.atoms, pairs, tasks);
        atom_room_ = plan.atoms;
        pair_room_ = pairs;
        task_room_ = tasks;
    }
    job_.model = &model_;
    job_.plan = plan;
    job_.state.layer = layers_.data();
    alone_ = plan.atoms <= ALONE;
    graph_ = std::move(graph);
}

void Engine::allocate(int atoms, int pairs, int tasks) {
    const Shape& s = model_.shape;
    Arena& a = workspace_;
    const size_t N = size_t(atoms), P = size_t(pairs), vectors = N * s.M * s.Cp, scalars = N * s.Fp, heads = N * s.Hp;
    Near& near = job_.near;
    near.record_stride = padded(HARMONICS + s.M);
    near.gradient_stride = padded(BY_HARMONICS + s.M);
    near.i = a.take<int32_t>(P);
    near.j = a.take<int32_t>(P);
    near.vector = a.take<double>(4 * P);
    near.record = a.take<float>(P * near.record_stride);
    near.gradient = a.take<float>(P * near.gradient_stride);
    near.begin = a.take<int32_t>(tasks);
    near.end = a.take<int32_t>(tasks);
    near.close = a.take<int32_t>(tasks);
    State& g = job_.state;
    g.weight_stride = padded((s.robust ? 3 : 2) * s.H);
    g.frame_stride = frame_place(s.L + 1);
    if (model_.frames) {
        g.frames = a.take<float>(N * g.frame_stride);
        g.exact_frames = a.take<double>(N * g.frame_stride);
        g.surroundings = a.take<double>(N * 19);
    }
    for (int n = 0; n <= s.T; ++n) {
        Activations& t = layers_[n];
        t.x = a.take<float>(scalars);
        t.v = a.take<float>(vectors);
        if (n == s.T) break;
        for (float** rows : {&t.query, &t.key, &t.message, &t.x2, &t.hidden}) *rows = a.take<float>(scalars);
        for (float** rows : {&t.query_norm, &t.key_norm, &t.total}) *rows = a.take<float>(heads);
        for (float** rows : {&t.mixed, &t.vector_message, &t.v2}) *rows = a.take<float>(vectors);
        for (float** rows : {&t.value, &t.joined}) *rows = a.take<float>(N * (s.Fp + s.G));
        t.projected = a.take<double>(N * s.M * whole_lines(s.H));
        t.products = a.take<float>(2 * vectors);
        t.gates = a.take<float>(N * s.G);
        for (Moments** rows : {&t.first, &t.second}) *rows = a.take<Moments>(N);
        t.weights = a.take<float>(P * g.weight_stride);
        t.filters = P * s.W * sizeof(float) * s.T <= KEPT ? a.take<float>(P * s.W) : nullptr;
    }
    for (float** rows : {&g.gx, &g.g_message, &g.g_query, &g.g_key}) *rows = a.take<float>(scalars);
    for (float** rows : {&g.gv, &g.g_mixed}) *rows = a.take<float>(vectors);
    g.g_share = a.take<float>(heads);
    g.g_value = a.take<float>(N * (s.Fp + s.G));
    g.g_projected = a.take<float>(N * s.M * s.Hp);
    g.energy = a.take<float>(N);
    gradient_.assign(3 * N, 0.0);
}

template <class Phase>
void Engine::over_atoms(const Phase& phase) {
    const Plan& plan = job_.plan;
    crew_.share(plan.blocks, alone_, [&](int block, int thread) {
        phase(plan.block[block], plan.block[block + 1], scratch_[size_t(thread)]);
    });
}

template <class Phase>
void Engine::over_pairs(const Phase& phase) {
    for (int r = 0; r < job_.plan.rounds; ++r) {
        const int first = job_.plan.round[r], count = job_.plan.round[r + 1] - first;
        crew_.share(count, alone_, [&](int item, int thread) { phase(first + item, scratch_[size_t(thread)]); });
    }
}

void Engine::compute(const double* positions, double* energies, double* forces, double* virials) {
    if (!graph_) throw Failure(GAQ_BAD_ARGUMENT, "set a graph before computing");
    if (!positions) throw Failure(GAQ_BAD_ARGUMENT, "positions are null");
    const size_t N = size_t(job_.plan.atoms);
    require_finite("position", positions, N, 3);
    job_.positions = positions;
    job_.gradients = forces || virials;
    job_.state.virials = virials;
    for (Scratch& z : scratch_) z.broken = 0.0f;
    forward();
    for (const Scratch& z : scratch_)
        if (z.broken != 0.0f) throw Failure(GAQ_NOT_FINITE, "a value inside of the model is not finite");
    if (energies) {
        for (size_t n = 0; n < N; ++n)
            energies[n] = double(job_.state.energy[n]) * model_.energy_scale + model_.energy_offsets[job_.plan.species[n]];
        repel(job_, energies, nullptr, nullptr);
        require_finite("energy", energies, N, 1);
    }
    if (!job_.gradients) return;
    job_.state.forces = forces ? forces : gradient_.data();
    std::memset(job_.state.forces, 0, 3 * N * sizeof(double));
    if (virials) std::memset(virials, 0, 9 * N * sizeof(double));
    backward();
    for (size_t n = 0; n < 3 * N; ++n) job_.state.forces[n] *= -model_.energy_scale;
    if (virials)
        for (size_t n = 0; n < 9 * N; ++n) virials[n] *= model_.energy_scale;
    repel(job_, nullptr, job_.state.forces, virials);
    require_finite("force", job_.state.forces, N, 3);
    if (virials) require_finite("virial", virials, N, 9);
}

void Engine::forward() {
    Job& job = job_;
    const Kernels& k = kernels_;
    crew_.share(job.plan.tasks, alone_, [&](int task, int) { k.near_pairs(job, task); });
    for (int task = 0; task < job.plan.tasks; ++task)
        if (job.near.end[task] < 0) throw Failure(GAQ_OVERLAP, "two atoms are closer than the model can see, " +
                                                                   std::to_string(model_.start) + " Å: at one place");
    if (model_.frames) {
        std::memset(job.state.surroundings, 0, size_t(job.plan.atoms) * 19 * sizeof(double));
        for (int round = 0; round <= model_.spreading; ++round) {
            over_pairs([&](int task, Scratch&) { k.surround(job, task, round); });
            over_atoms([&](int begin, int end, Scratch&) { k.settle(job, begin, end, round); });
        }
        over_atoms([&](int begin, int end, Scratch&) { k.orient(job, begin, end); });
    }
    over_atoms([&](int begin, int end, Scratch&) { k.embed_start(job, begin, end); });
    over_pairs([&](int task, Scratch& z) { k.embed(job, task, z); });
    const int T = model_.shape.T;
    for (int t = 0; t < T; ++t) {
        over_atoms([&](int begin, int end, Scratch& z) {
            if (t) k.finish(job, t - 1, begin, end, z);
            k.prepare(job, t, begin, end, z);
        });
        over_pairs([&](int task, Scratch& z) { k.attend(job, t, task, z); });
    }
    over_atoms([&](int begin, int end, Scratch& z) {
        k.finish(job, T - 1, begin, end, z);
        k.readout(job, begin, end, z);
    });
}

void Engine::backward() {
    Job& job = job_;
    const Kernels& k = kernels_;
    const int T = model_.shape.T;
    for (int t = T - 1; t >= 0; --t) {
        over_atoms([&](int begin, int end, Scratch& z) {
            if (t < T - 1) k.prepare_adjoint(job, t + 1, begin, end, z);
            k.finish_adjoint(job, t, begin, end, z);
        });
        over_pairs([&](int task, Scratch& z) { k.attend_adjoint(job, t, task, z); });
    }
    over_atoms([&](int begin, int end, Scratch& z) { k.prepare_adjoint(job, 0, begin, end, z); });
    over_pairs([&](int task, Scratch& z) {
        k.embed_adjoint(job, task, z);
        k.push(job, task);
    });
}

gaq_facts Engine::facts() const {
    gaq_facts facts{};
    std::strncpy(facts.isa, kernels_.name, sizeof facts.isa - 1);
    facts.threads = crew_.threads();
    facts.quantizers = model_.quantizers;
    facts.weight_bytes = sizes_.weights;
    facts.table_bytes = sizes_.tables;
    facts.workspace_bytes = workspace_.bytes() + scratch_memory_.bytes();
    for (int task = 0; graph_ && task < job_.plan.tasks; ++task)
        facts.pairs += uint64_t(std::max(job_.near.end[task] - job_.near.begin[task], 0));
    return facts;
}

void Engine::saturation(uint64_t* clipped, uint64_t* seen) const {
    for (int n = 0; n < model_.quantizers; ++n) {
        clipped[n] = seen[n] = 0;
        for (const Scratch& z : scratch_) {
            clipped[n] += z.clipped[n];
            seen[n] += z.seen[n];
        }
    }
}

}  // namespace gaq
