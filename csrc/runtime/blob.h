// Bounds-checked views into a blob: a header, a directory of named arrays, their bytes. See docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gaq {

enum class Type : uint32_t { float32 = 0, float64 = 1, int8 = 2, int32 = 3 };

class Blob {
public:
    static constexpr uint32_t VERSION = 4;

    // Throws Failure(GAQ_BAD_BLOB) unless the header, the checksum and the whole directory are sound.
    Blob(const void* data, size_t bytes);

    const std::string& kind() const { return kind_; }  // of the model that it holds

    bool has(const std::string& name) const { return find(name) != nullptr; }

    // The array of this name, which must have exactly `count` values of T; throws Failure(GAQ_BAD_BLOB).
    template <class T>
    const T* array(const std::string& name, uint64_t count) const;

    uint64_t length(const std::string& name) const;

private:
    struct Entry {
        char name[64];
        uint32_t type, reserved;
        uint64_t count, offset;
    };

    static bool before(const Entry& a, const Entry& b);
    const Entry* find(const std::string& name) const;
    const void* checked(const std::string& name, Type type, uint64_t count) const;

    const unsigned char* data_;
    std::string kind_;
    std::vector<Entry> entries_;  // by name
};

}  // namespace gaq
