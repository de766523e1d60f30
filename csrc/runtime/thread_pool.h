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

class Workers {  // the threads of one process, started when there is work for them
public:
    explicit Workers(int threads) : threads_(threads), process_(getpid()) {}
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;
    ~Workers() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
            generation_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    bool inherited() const { return process_ != getpid(); }  // by a fork, which copies no thread

    void for_each(int items, const std::function<void(int, int)>& work) {
        start();
        work_ = &work;
        items_ = items;
        next_.store(0, std::memory_order_relaxed);
        idle_.store(0, std::memory_order_relaxed);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            generation_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        take_items(0);
        while (idle_.load(std::memory_order_acquire) < threads_ - 1) std::this_thread::yield();
    }

private:
    static constexpr int SPINS = 2000;  // looks at the generation before a worker goes to sleep

    void
    start() {  // a worker begins with the generation that it is started in: an earlier one, which failed midway, is over
        for (int n = int(workers_.size()) + 1; n < threads_; ++n)
            workers_.emplace_back([this, n, seen = generation_.load(std::memory_order_relaxed)] { wait(n, seen); });
    }

    void take_items(int thread) {
        for (int item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < items_;) (*work_)(item, thread);
    }

    void wait(int thread, unsigned seen) {
        for (;;) {
            for (int n = 0; n < SPINS && generation_.load(std::memory_order_acquire) == seen; ++n)
                if (n % 16 == 15) std::this_thread::yield();
            if (generation_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
            }
            seen = generation_.load(std::memory_order_acquire);
            if (stopping_) return;
            take_items(thread);
            idle_.fetch_add(1, std::memory_order_release);
        }
    }

    const int threads_;
    const pid_t process_;
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<unsigned> generation_{0};  // of work, and one more for the end
    std::atomic<int> next_{0}, idle_{0};
    const std::function<void(int, int)>* work_ = nullptr;
    int items_ = 0;
    bool stopping_ = false;
};

class ThreadPool {
public:
    explicit ThreadPool(int threads) : threads_(threads) {}
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;
    ~ThreadPool() { leave_inherited(); }

    int threads() const { return threads_; }

    // Call work(item, thread) for all items, each once; returns when all are done. `serial` keeps it in this thread.
    template <class Work>
    void for_each(int items, bool serial, const Work& work) {
        if (serial || threads_ == 1 || items < 2) {
            for (int item = 0; item < items; ++item) work(item, 0);
            return;
        }
        leave_inherited();
        if (!workers_) workers_ = std::make_unique<Workers>(threads_);
        workers_->for_each(items, std::ref(work));
    }

private:
    // Leave workers from before a fork as they are: there are no threads to join, and their lock may be held for ever.
    void leave_inherited() {
        if (workers_ && workers_->inherited()) (void)workers_.release();  // NOLINT(bugprone-unused-return-value)
    }

    const int threads_;
    std::unique_ptr<Workers> workers_;
};

}  // namespace gaq
