#include "runtime/dynamics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/failure.h"

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

// Velocity Verlet, v += F dt/2m, x += v dt, v += F(x) dt/2m; with friction the drift is split in two halves around an exact
// step of the bath, v = c v + sqrt((1 - c²) kT/m) ξ (BAOAB; Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013)).
class Integrator {
public:
    Integrator(Engine& engine, gaq_dynamics& dynamics, const MovingAtoms& atoms)
        : engine_(engine), d_(dynamics), a_(atoms), N_(size_t(engine.atoms())), half_(0.5 * d_.timestep),
          kept_(std::exp(-d_.friction * d_.timestep)), lost_(1.0 - kept_ * kept_), energies_(N_), before_(9 * N_),
          potentials_(size_t(a_.structures)), members_(size_t(a_.structures), 0) {
        for (size_t n = 0; n < N_; ++n) ++members_[size_t(a_.batch[n])];
    }

    // One step; false where it is not taken, or is the last one for now.
    bool step() {
        save();
        kick();
        drift();
        if (displaced()) {  // pairs may be missing from the graph: take the step back, and leave it to be made anew
            restore();
            return false;
        }
        try {
            find_forces();
        } catch (...) {
            restore();
            throw;
        }
        kick();
        ++d_.step;
        return find_energies();
    }

private:
    void save() {
        double* to = before_.data();
        for (const double* from : {a_.positions, a_.velocities, a_.forces})
            std::memcpy(to, from, 3 * N_ * sizeof(double)), to += 3 * N_;
    }

    void restore() {
        const double* from = before_.data();
        for (double* to : {a_.positions, a_.velocities, a_.forces})
            std::memcpy(to, from, 3 * N_ * sizeof(double)), from += 3 * N_;
    }

    void kick() {
        for (size_t n = 0; n < N_; ++n)
            for (size_t k = 3 * n; k < 3 * n + 3; ++k) a_.velocities[k] += half_ * a_.forces[k] / a_.masses[n];
    }

    void drift() {
        if (!(d_.friction > 0)) {
            for (size_t k = 0; k < 3 * N_; ++k) a_.positions[k] += d_.timestep * a_.velocities[k];
            return;
        }
        for (size_t k = 0; k < 3 * N_; ++k) a_.positions[k] += half_ * a_.velocities[k];
        for (size_t n = 0; n < N_; ++n) {
            double noise[4];
            Philox(d_.seed, uint64_t(d_.step), 2 * n).normals(noise);
            Philox(d_.seed, uint64_t(d_.step), 2 * n + 1).normals(noise + 2);
            const double size = std::sqrt(lost_ * d_.temperature / a_.masses[n]);
            for (size_t k = 0; k < 3; ++k) a_.velocities[3 * n + k] = kept_ * a_.velocities[3 * n + k] + size * noise[k];
        }
        for (size_t k = 0; k < 3 * N_; ++k) a_.positions[k] += half_ * a_.velocities[k];
    }

    bool displaced() const {
        for (size_t n = 0; n < N_; ++n) {
            double square = 0.0;
            for (size_t k = 3 * n; k < 3 * n + 3; ++k)
                square += (a_.positions[k] - a_.reference[k]) * (a_.positions[k] - a_.reference[k]);
            if (!(square <= d_.max_displacement * d_.max_displacement)) return true;
        }
        return false;
    }

    void find_forces() {
        engine_.compute(a_.positions, energies_.data(), a_.forces, nullptr);
        std::fill(potentials_.begin(), potentials_.end(), 0.0);
        for (size_t n = 0; n < N_; ++n) potentials_[size_t(a_.batch[n])] += energies_[n];
        for (const double energy : potentials_)
            if (!std::isfinite(energy)) throw Failure(GAQ_NOT_FINITE, "the energy of a structure is not finite");
    }

    // Tell the caller; false if a structure is too hot.
    bool find_energies() {
        for (size_t s = 0; s < potentials_.size(); ++s) a_.potential[s] = potentials_[s], a_.kinetic[s] = 0.0;
        for (size_t n = 0; n < N_; ++n) {
            for (size_t k = 3 * n; k < 3 * n + 3; ++k)  // an atom of infinite mass is at rest, and has no energy
                if (a_.velocities[k] != 0.0)
                    a_.kinetic[a_.batch[n]] += 0.5 * a_.masses[n] * a_.velocities[k] * a_.velocities[k];
        }
        for (size_t s = 0; s < potentials_.size(); ++s)
            if (!(a_.kinetic[s] <= d_.max_kinetic * double(members_[s]))) return false;
        return true;
    }

    Engine& engine_;
    gaq_dynamics& d_;
    const MovingAtoms& a_;
    const size_t N_;
    const double half_, kept_,
        lost_;  // half a time step; share of a velocity that the bath keeps, and of its square that it takes
    std::vector<double> energies_, before_, potentials_;
    std::vector<int64_t> members_;  // atoms of each structure
};

void require_sound(const gaq_dynamics& d, const MovingAtoms& atoms, size_t count) {
    if (!count) throw Failure(GAQ_BAD_ARGUMENT, "set a graph before running");
    for (size_t n = 0; n < count; ++n) {
        if (atoms.batch[n] < 0 || atoms.batch[n] >= atoms.structures)
            throw Failure(GAQ_BAD_ARGUMENT, "batch is out of range");
        if (!(atoms.masses[n] > 0)) throw Failure(GAQ_BAD_ARGUMENT, "masses must be positive");
    }
    if (!(d.timestep > 0) || !(d.friction >= 0) || !(d.temperature >= 0) || !(d.max_displacement > 0) ||
        !(d.max_kinetic > 0))
        throw Failure(GAQ_BAD_ARGUMENT, "timestep and limits must be positive, friction and temperature not negative");
}

}  // namespace

void run(Engine& engine, gaq_dynamics& dynamics, int64_t steps, const MovingAtoms& atoms) {
    require_sound(dynamics, atoms, size_t(engine.atoms()));
    Integrator integrator(engine, dynamics, atoms);
    const int64_t goal = dynamics.step + steps;
    while (dynamics.step < goal && integrator.step()) {
    }
}

}  // namespace gaq
