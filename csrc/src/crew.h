// Threads that wait for work and share it out item by item; with one thread, a loop.
#pragma once

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gaq {

class Pool {                       // the threads of one process, hired when there is work for them
public:
    explicit Pool(int threads) : threads_(threads), process_(getpid()) {}
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            leaving_ = true;
            turn_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    bool inherited() const { return process_ != getpid(); }  // by a fork, which copies no thread

    void share(int items, const std::function<void(int, int)>& work) {
        hire();
        work_ = &work;
        items_ = items;
        next_.store(0, std::memory_order_relaxed);
        idle_.store(0, std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            turn_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        drain(0);
        while (idle_.load(std::memory_order_acquire) < threads_ - 1) std::this_thread::yield();
    }

private:
    static constexpr int PATIENCE = 2000;  // looks at the turn before a worker goes to sleep

    void hire() {  // a worker begins with the turn that it is hired in: an earlier one of which others had no room is over
        for (int n = int(workers_.size()) + 1; n < threads_; ++n)
            workers_.emplace_back([this, n, seen = turn_.load(std::memory_order_relaxed)] { wait(n, seen); });
    }

    void drain(int thread) {
        for (int item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < items_;) (*work_)(item, thread);
    }

    void wait(int thread, unsigned seen) {
        for (;;) {
            for (int n = 0; n < PATIENCE && turn_.load(std::memory_order_acquire) == seen; ++n)
                if (n % 16 == 15) std::this_thread::yield();
            if (turn_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return turn_.load(std::memory_order_acquire) != seen; });
            }
            seen = turn_.load(std::memory_order_acquire);
            if (leaving_) return;
            drain(thread);
            idle_.fetch_add(1, std::memory_order_release);
        }
    }

    const int threads_;
    const pid_t process_;
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<unsigned> turn_{0};
    std::atomic<int> next_{0}, idle_{0};
    const std::function<void(int, int)>* work_ = nullptr;
    int items_ = 0;
    bool leaving_ = false;
};

class Crew {
public:
    explicit Crew(int threads) : threads_(threads) {}
    ~Crew() { forget(); }

    int threads() const { return threads_; }

    // Call work(item, thread) for all items, each once; returns when all are done. `alone` keeps it in this thread.
    template <class Work>
    void share(int items, bool alone, const Work& work) {
        if (alone || threads_ == 1 || items < 2) {
            for (int item = 0; item < items; ++item) work(item, 0);
            return;
        }
        forget();
        if (!pool_) pool_ = std::make_unique<Pool>(threads_);
        pool_->share(items, std::ref(work));
    }

private:
    // Leave a pool from before a fork as it is: there are no threads to join, and its lock may be held for ever.
    void forget() {
        if (pool_ && pool_->inherited()) (void)pool_.release();
    }

    const int threads_;
    std::unique_ptr<Pool> pool_;
};

}  // namespace gaq
