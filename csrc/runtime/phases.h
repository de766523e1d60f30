// Phases of a computation, each over all atoms or all pairs of a schedule, shared out to threads. Items of one phase write
// to different atoms, so that no sum depends on the number of threads.
#pragma once

#include "runtime/schedule.h"
#include "runtime/thread_pool.h"

namespace gaq {

class Phases {
public:
    Phases(ThreadPool& pool, const Schedule& schedule)
        : pool_(pool), schedule_(schedule), serial_(schedule.atoms <= SERIAL_ATOMS) {}

    // Call phase(begin, end, thread) for blocks of atoms.
    template <class Phase>
    void over_atoms(const Phase& phase) const {
        pool_.for_each(schedule_.blocks, serial_,
                       [&](int block, int thread) { phase(schedule_.block[block], schedule_.block[block + 1], thread); });
    }

    // Call phase(task, thread) for tasks of pairs, those of one round at the same time.
    template <class Phase>
    void over_pairs(const Phase& phase) const {
        for (int r = 0; r < schedule_.rounds; ++r) {
            const int first = schedule_.round[r], count = schedule_.round[r + 1] - first;
            pool_.for_each(count, serial_, [&](int item, int thread) { phase(first + item, thread); });
        }
    }

    // Call phase(task) for tasks of pairs that write to nothing but themselves.
    template <class Phase>
    void over_pairs_alone(const Phase& phase) const {
        pool_.for_each(schedule_.tasks, serial_, [&](int task, int) { phase(task); });
    }

private:
    static constexpr int SERIAL_ATOMS = 48;  // up to which other threads would cost more than they give

    ThreadPool& pool_;
    const Schedule& schedule_;
    const bool serial_;
};

}  // namespace gaq
