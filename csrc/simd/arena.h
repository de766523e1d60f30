// Memory in 64-byte aligned pieces that is freed as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace gaq {

class Arena {
public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() { clear(); }

    // Zeroed, never null: throws std::bad_alloc.
    template <class T>
    T* take(size_t count) {
        if (count > SIZE_MAX / 2 / sizeof(T)) throw std::bad_alloc();
        const size_t size = (count * sizeof(T) + 127) / 64 * 64;  // a spare line: kernels may load past the end
        void* piece = nullptr;
        pieces_.reserve(pieces_.size() + 1);
#if defined(_WIN32)
        piece = _aligned_malloc(size, 64);
        if (!piece) throw std::bad_alloc();
#else
        if (posix_memalign(&piece, 64, size)) throw std::bad_alloc();
#endif
        std::memset(piece, 0, size);
        pieces_.push_back(piece);
        bytes_ += size;
        return static_cast<T*>(piece);
    }

    void clear() {
        for (void* piece : pieces_) {
#if defined(_WIN32)
            _aligned_free(piece);
#else
            std::free(piece);
#endif
        }
        pieces_.clear();
        bytes_ = 0;
    }

    size_t bytes() const { return bytes_; }

private:
    std::vector<void*> pieces_;
    size_t bytes_ = 0;
};

}  // namespace gaq
