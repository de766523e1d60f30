#include "models/transformer/transformer.h"

#include <algorithm>
#include <cstring>

#include "models/transformer/reader.h"
#include "models/transformer/repulsion.h"
#include "runtime/failure.h"

namespace gaq::transformer {
namespace {

constexpr size_t SAVED_FILTER_BYTES = 1 << 20;  // kept for the backward pass: what a second-level cache has room for

}  // namespace

std::unique_ptr<Model> make(const Blob& blob, Isa isa, ThreadPool& pool) {
    return std::make_unique<Transformer>(blob, isa, pool);
}

Transformer::Transformer(const Blob& blob, Isa isa, ThreadPool& pool)
    : kernels_([&]() -> const Kernels& {
          static constexpr PerIsa<Kernels> kernels = GAQ_PER_ISA(kernels);
          return kernels[isa];
      }()),
      pool_(pool) {
    parameters_ = read_parameters(blob, parameter_memory_, facts_);
    args_.parameters = &parameters_;
    layers_.resize(size_t(parameters_.shape.T) + 1);
    for (int n = 0; n < pool.threads(); ++n) scratch_.push_back(scratch());
}

Scratch Transformer::scratch() {
    const Shape& s = parameters_.shape;
    const size_t rows = size_t(ATOM_BLOCK) * (2 * s.L + 1);
    const size_t vectors = std::max(rows * std::max(2 * s.Cp, s.Hp), size_t(ATOM_BLOCK) * s.M * s.Cp);
    const size_t most = std::max(vectors, size_t(ATOM_BLOCK) * (2 * s.Fp + s.G)) + size_t(s.W);
    Arena& a = scratch_memory_;
    Scratch z{};
    z.narrow = a.take<int8_t>(most);
    z.wide = a.take<int16_t>(most);
    z.sum = a.take<int32_t>(rows);
    z.decoded = a.take<float>(size_t(std::max(s.Fp + s.G, 2 * s.Cp)) * 2 * LANES);
    for (float** buffer : {&z.rows, &z.more, &z.a, &z.b, &z.c, &z.d}) *buffer = a.take<float>(most);
    z.filter = a.take<float>(size_t(PAIR_BATCH) * s.W);
    z.by_filter = a.take<float>(s.W);
    z.pair = a.take<float>(size_t(PAIR_BATCH * (s.L + 5) + s.L) * s.Hp + LANES);
    z.clipped = a.take<uint64_t>(std::max(facts_.quantizers, 1));
    z.seen = a.take<uint64_t>(std::max(facts_.quantizers, 1));
    return z;
}

void Transformer::set_graph(const Schedule& schedule) {
    args_.schedule = Schedule{};  // whatever fails from here on leaves no graph
    if (schedule.atoms > atom_room_ || schedule.pairs > pair_room_ || schedule.tasks > task_room_) {
        workspace_.clear();
        atom_room_ = pair_room_ = task_room_ = 0;
        const int pairs = schedule.pairs + schedule.pairs / 8, tasks = schedule.tasks + schedule.tasks / 4;  // to grow into
        allocate(schedule.atoms, pairs, tasks);
        atom_room_ = schedule.atoms;
        pair_room_ = pairs;
        task_room_ = tasks;
    }
    args_.schedule = schedule;
    args_.work.layer = layers_.data();
}

void Transformer::allocate(int atoms, int pairs, int tasks) {
    const Shape& s = parameters_.shape;
    Arena& a = workspace_;
    const size_t N = size_t(atoms), scalars = N * s.Fp, vectors = N * s.M * s.Cp;
    allocate_pairs(pairs, tasks);
    Workspace& g = args_.work;
    g.weight_stride = padded((s.robust ? 3 : 2) * s.H);
    g.frame_stride = frame_place(s.L + 1);
    if (parameters_.frames) {
        g.frames = a.take<float>(N * g.frame_stride);
        g.exact_frames = a.take<double>(N * g.frame_stride);
        g.frame_tensors = a.take<double>(N * FRAME_TENSORS);
    }
    for (int n = 0; n < s.T; ++n) allocate_layer(layers_[n], N, size_t(pairs));
    layers_[s.T].x = a.take<float>(scalars);
    layers_[s.T].v = a.take<float>(vectors);
    for (float** rows : {&g.gx, &g.g_message, &g.g_query, &g.g_key}) *rows = a.take<float>(scalars);
    for (float** rows : {&g.gv, &g.g_mixed}) *rows = a.take<float>(vectors);
    g.g_share = a.take<float>(N * s.Hp);
    g.g_value = a.take<float>(N * (s.Fp + s.G));
    g.g_projected = a.take<float>(N * s.M * s.Hp);
    g.energy = a.take<float>(N);
    gradient_.assign(3 * N, 0.0);
}

void Transformer::allocate_pairs(int pairs, int tasks) {
    const Shape& s = parameters_.shape;
    Arena& a = workspace_;
    const size_t P = size_t(pairs);
    Pairs& found = args_.pairs;
    found.record_stride = padded(HARMONICS + s.M);
    found.gradient_stride = padded(BY_HARMONICS + s.M);
    found.i = a.take<int32_t>(P);
    found.j = a.take<int32_t>(P);
    found.vector = a.take<double>(4 * P);
    found.record = a.take<float>(P * found.record_stride);
    found.gradient = a.take<float>(P * found.gradient_stride);
    for (int32_t** rows : {&found.begin, &found.end, &found.repelled}) *rows = a.take<int32_t>(tasks);
}

void Transformer::allocate_layer(Activations& t, size_t N, size_t P) {
    const Shape& s = parameters_.shape;
    Arena& a = workspace_;
    const size_t scalars = N * s.Fp, vectors = N * s.M * s.Cp, heads = N * s.Hp;
    for (float** rows : {&t.x, &t.query, &t.key, &t.message, &t.x2, &t.hidden}) *rows = a.take<float>(scalars);
    for (float** rows : {&t.query_norm, &t.key_norm, &t.total}) *rows = a.take<float>(heads);
    for (float** rows : {&t.v, &t.mixed, &t.vector_message, &t.v2}) *rows = a.take<float>(vectors);
    for (float** rows : {&t.value, &t.update_input}) *rows = a.take<float>(N * (s.Fp + s.G));
    t.projected = a.take<double>(N * s.M * padded_doubles(s.H));
    t.products = a.take<float>(2 * vectors);
    t.gates = a.take<float>(N * s.G);
    for (Moments** rows : {&t.first, &t.second}) *rows = a.take<Moments>(N);
    t.weights = a.take<float>(P * args_.work.weight_stride);
    t.filters = P * s.W * sizeof(float) * s.T <= SAVED_FILTER_BYTES ? a.take<float>(P * s.W) : nullptr;
}

void Transformer::compute(const double* positions, double* energies, double* forces, double* virials) {
    const size_t N = size_t(args_.schedule.atoms);
    const Phases phases(pool_, args_.schedule);
    args_.positions = positions;
    args_.gradients = forces || virials;
    args_.work.virials = virials;
    for (Scratch& z : scratch_) z.not_finite = 0.0f;
    forward(phases);
    for (const Scratch& z : scratch_)
        if (z.not_finite != 0.0f) throw Failure(GAQ_NOT_FINITE, "a value inside of the model is not finite");
    if (energies) {
        for (size_t n = 0; n < N; ++n)
            energies[n] = double(args_.work.energy[n]) * parameters_.energy_scale +
                          parameters_.energy_offsets[args_.schedule.species[n]];
        add_repulsion(args_, energies, nullptr, nullptr);
    }
    if (!args_.gradients) return;
    args_.work.forces = forces ? forces : gradient_.data();
    std::memset(args_.work.forces, 0, 3 * N * sizeof(double));
    if (virials) std::memset(virials, 0, 9 * N * sizeof(double));
    backward(phases);
    for (size_t n = 0; n < 3 * N; ++n) args_.work.forces[n] *= -parameters_.energy_scale;
    if (virials)
        for (size_t n = 0; n < 9 * N; ++n) virials[n] *= parameters_.energy_scale;
    add_repulsion(args_, nullptr, args_.work.forces, virials);
}

void Transformer::forward(const Phases& phases) {
    Arguments& args = args_;
    const Kernels& k = kernels_;
    phases.over_pairs_alone([&](int task) { k.pair_geometry(args, task); });
    for (int task = 0; task < args.schedule.tasks; ++task)
        if (args.pairs.end[task] < 0)
            throw Failure(GAQ_OVERLAP, "two atoms are closer than the model can see, " + std::to_string(parameters_.start) +
                                           " Å: at one place");
    if (parameters_.frames) find_frames(phases);
    phases.over_atoms([&](int begin, int end, int) { k.embed_species(args, begin, end); });
    phases.over_pairs([&](int task, int thread) { k.embed_neighbours(args, task, scratch_[thread]); });
    const int T = parameters_.shape.T;
    for (int t = 0; t < T; ++t) {
        phases.over_atoms([&](int begin, int end, int thread) {
            if (t) k.interaction(args, t - 1, begin, end, scratch_[thread]);
            k.attention_inputs(args, t, begin, end, scratch_[thread]);
        });
        phases.over_pairs([&](int task, int thread) { k.attention(args, t, task, scratch_[thread]); });
    }
    phases.over_atoms([&](int begin, int end, int thread) {
        k.interaction(args, T - 1, begin, end, scratch_[thread]);
        k.readout(args, begin, end, scratch_[thread]);
    });
}

void Transformer::find_frames(const Phases& phases) {
    std::memset(args_.work.frame_tensors, 0, size_t(args_.schedule.atoms) * FRAME_TENSORS * sizeof(double));
    for (int round = 0; round <= parameters_.spreading; ++round) {
        phases.over_pairs([&](int task, int) { kernels_.add_frame_tensors(args_, task, round); });
        phases.over_atoms([&](int begin, int end, int) { kernels_.update_frame_tensors(args_, begin, end, round); });
    }
    phases.over_atoms([&](int begin, int end, int) { kernels_.local_frames(args_, begin, end); });
}

void Transformer::backward(const Phases& phases) {
    Arguments& args = args_;
    const Kernels& k = kernels_;
    const int T = parameters_.shape.T;
    for (int t = T - 1; t >= 0; --t) {
        phases.over_atoms([&](int begin, int end, int thread) {
            if (t < T - 1) k.attention_inputs_adjoint(args, t + 1, begin, end, scratch_[thread]);
            k.interaction_adjoint(args, t, begin, end, scratch_[thread]);
        });
        phases.over_pairs([&](int task, int thread) { k.attention_adjoint(args, t, task, scratch_[thread]); });
    }
    phases.over_atoms(
        [&](int begin, int end, int thread) { k.attention_inputs_adjoint(args, 0, begin, end, scratch_[thread]); });
    phases.over_pairs([&](int task, int thread) {
        k.embed_neighbours_adjoint(args, task, scratch_[thread]);
        k.scatter_forces(args, task);
    });
}

uint64_t Transformer::pairs() const {
    uint64_t count = 0;
    for (int task = 0; task < args_.schedule.tasks; ++task)
        count += uint64_t(std::max(args_.pairs.end[task] - args_.pairs.begin[task], 0));
    return count;
}

void Transformer::saturation(uint64_t* clipped, uint64_t* seen) const {
    for (int n = 0; n < facts_.quantizers; ++n) {
        clipped[n] = seen[n] = 0;
        for (const Scratch& z : scratch_) {
            clipped[n] += z.clipped[n];
            seen[n] += z.seen[n];
        }
    }
}

}  // namespace gaq::transformer
