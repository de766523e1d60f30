#include "dynamics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "failure.h"

namespace gaq {
namespace {

// Philox 4x32-10: random bits as a function of a key and a counter, so that noise depends on nothing else.
// Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
struct Philox {
    uint32_t word[4];
    Philox(uint64_t key, uint64_t high, uint64_t low) {
        uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
        word[0] = uint32_t(low), word[1] = uint32_t(low >> 32), word[2] = uint32_t(high), word[3] = uint32_t(high >> 32);
        for (int round = 0; round < 10; ++round) {
            const uint64_t a = uint64_t(0xD2511F53u) * word[0], b = uint64_t(0xCD9E8D57u) * word[2];
            const uint32_t next[4] = {uint32_t(b >> 32) ^ word[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ word[3] ^ k1,
                                      uint32_t(a)};
            for (int n = 0; n < 4; ++n) word[n] = next[n];
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
    }
    // Two numbers of the standard normal distribution (Box-Muller).
    void normals(double* pair) const {
        const double u = (double(word[0]) + 0.5) * 0x1p-32, v = double(word[1]) * 0x1p-32 + double(word[2]) * 0x1p-64;
        const double radius = std::sqrt(-2.0 * std::log(u)), angle = 6.283185307179586 * v;
        pair[0] = radius * std::cos(angle);
        pair[1] = radius * std::sin(angle);
    }
};

}  // namespace

// Velocity Verlet, v += F dt/2m, x += v dt, v += F(x) dt/2m; with friction the drift is split in two halves around an exact
// step of the bath, v = c v + sqrt((1 - c²) kT/m) ξ (BAOAB; Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013)).
void run(Engine& engine, gaq_dynamics& d, int64_t steps, const double* masses, const int32_t* batch, int32_t structures,
         const double* reference, double* positions, double* velocities, double* forces, double* potential,
         double* kinetic) {
    const size_t N = size_t(engine.atoms());
    if (!N) throw Failure(GAQ_BAD_ARGUMENT, "set a graph before running");
    for (size_t n = 0; n < N; ++n) {
        if (batch[n] < 0 || batch[n] >= structures) throw Failure(GAQ_BAD_ARGUMENT, "batch is out of range");
        if (!(masses[n] > 0)) throw Failure(GAQ_BAD_ARGUMENT, "masses must be positive");
    }
    if (!(d.timestep > 0) || !(d.friction >= 0) || !(d.temperature >= 0) || !(d.reach > 0) || !(d.hottest > 0))
        throw Failure(GAQ_BAD_ARGUMENT, "timestep, reach and hottest must be positive, friction and temperature not negative");
    std::vector<double> energies(N);
    std::vector<int64_t> members(size_t(structures), 0);
    for (size_t n = 0; n < N; ++n) ++members[size_t(batch[n])];
    const double half = 0.5 * d.timestep, kept = std::exp(-d.friction * d.timestep), lost = 1.0 - kept * kept;
    const auto kick = [&] {
        for (size_t n = 0; n < N; ++n)
            for (size_t k = 3 * n; k < 3 * n + 3; ++k) velocities[k] += half * forces[k] / masses[n];
    };
    const auto far = [&] {
        for (size_t n = 0; n < N; ++n) {
            double square = 0.0;
            for (size_t k = 3 * n; k < 3 * n + 3; ++k) square += (positions[k] - reference[k]) * (positions[k] - reference[k]);
            if (!(square <= d.reach * d.reach)) return true;
        }
        return false;
    };
    const int64_t goal = d.step + steps;
    std::vector<double> before(9 * N), potentials(static_cast<size_t>(structures));
    const auto keep = [&] {
        double* to = before.data();
        for (const double* from : {positions, velocities, forces}) std::memcpy(to, from, 3 * N * sizeof(double)), to += 3 * N;
    };
    const auto restore = [&] {
        const double* from = before.data();
        for (double* to : {positions, velocities, forces}) std::memcpy(to, from, 3 * N * sizeof(double)), from += 3 * N;
    };
    while (d.step < goal) {
        keep();
        kick();
        if (d.friction > 0) {
            for (size_t k = 0; k < 3 * N; ++k) positions[k] += half * velocities[k];
            for (size_t n = 0; n < N; ++n) {
                double noise[4];
                Philox(d.seed, uint64_t(d.step), 2 * n).normals(noise);
                Philox(d.seed, uint64_t(d.step), 2 * n + 1).normals(noise + 2);
                const double size = std::sqrt(lost * d.temperature / masses[n]);
                for (size_t k = 0; k < 3; ++k) velocities[3 * n + k] = kept * velocities[3 * n + k] + size * noise[k];
            }
            for (size_t k = 0; k < 3 * N; ++k) positions[k] += half * velocities[k];
        } else {
            for (size_t k = 0; k < 3 * N; ++k) positions[k] += d.timestep * velocities[k];
        }
        if (far()) {  // pairs may be missing from the graph: take the step back, and leave it to be made anew
            restore();
            return;
        }
        try {
            engine.compute(positions, energies.data(), forces, nullptr);
            std::fill(potentials.begin(), potentials.end(), 0.0);
            for (size_t n = 0; n < N; ++n) potentials[size_t(batch[n])] += energies[n];
            for (double energy : potentials)
                if (!std::isfinite(energy)) throw Failure(GAQ_NOT_FINITE, "the energy of a structure is not finite");
        } catch (...) {
            restore();
            throw;
        }
        kick();
        ++d.step;
        for (int32_t s = 0; s < structures; ++s) potential[s] = potentials[size_t(s)], kinetic[s] = 0.0;
        for (size_t n = 0; n < N; ++n) {
            for (size_t k = 3 * n; k < 3 * n + 3; ++k)  // an atom of infinite mass is at rest, and has no energy
                if (velocities[k] != 0.0) kinetic[batch[n]] += 0.5 * masses[n] * velocities[k] * velocities[k];
        }
        for (int32_t s = 0; s < structures; ++s)
            if (!(kinetic[s] <= d.hottest * double(members[size_t(s)]))) return;
    }
}

}  // namespace gaq
