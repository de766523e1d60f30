#include "runtime/blob.h"

#include <algorithm>
#include <cstring>

#include "runtime/failure.h"

namespace gaq {
namespace {

constexpr char MAGIC[8] = {'G', 'A', 'Q', 'B', 'L', 'O', 'B', '1'};
constexpr size_t HEADER = 64;

struct Header {
    char magic[8];
    uint32_t version, entries;
    uint64_t bytes;
    uint32_t checksum, reserved;
    char kind[32];
};

uint64_t size_of(Type type) {
    switch (type) {
        case Type::float32:
        case Type::int32: return 4;
        case Type::float64: return 8;
        case Type::int8: return 1;
    }
    return 0;
}

[[noreturn]] void damaged(const std::string& what) { throw Failure(GAQ_BAD_BLOB, "blob: " + what); }

uint32_t crc32(const unsigned char* data, size_t bytes) {
    uint32_t table[8][256];
    for (uint32_t n = 0; n < 256; ++n) {
        uint32_t c = n;
        for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        table[0][n] = c;
    }
    for (uint32_t n = 0; n < 256; ++n)
        for (int t = 1; t < 8; ++t) table[t][n] = table[0][table[t - 1][n] & 255] ^ (table[t - 1][n] >> 8);
    uint32_t c = 0xFFFFFFFFu;
    while (bytes >= 8) {  // eight bytes at once: a large model is read at every start
        uint32_t low, high;
        std::memcpy(&low, data, 4);
        std::memcpy(&high, data + 4, 4);
        low ^= c;
        c = table[7][low & 255] ^ table[6][(low >> 8) & 255] ^ table[5][(low >> 16) & 255] ^ table[4][low >> 24] ^
            table[3][high & 255] ^ table[2][(high >> 8) & 255] ^ table[1][(high >> 16) & 255] ^ table[0][high >> 24];
        data += 8;
        bytes -= 8;
    }
    while (bytes--) c = table[0][(c ^ *data++) & 255] ^ (c >> 8);
    return ~c;
}

}  // namespace

Blob::Blob(const void* data, size_t bytes) : data_(static_cast<const unsigned char*>(data)) {
    static_assert(sizeof(Entry) == 88, "the directory is read as it lies");
    if (bytes < HEADER) damaged("it is shorter than its header");
    Header header;
    std::memcpy(&header, data_, sizeof header);
    if (std::memcmp(header.magic, MAGIC, sizeof MAGIC) != 0) damaged("it does not begin like one; it is something else");
    if (header.version != VERSION)
        damaged("its version is " + std::to_string(header.version) + ", and this library reads " + std::to_string(VERSION));
    if (header.kind[sizeof header.kind - 1]) damaged("its kind has no end");
    kind_ = header.kind;
    if (header.bytes != bytes)
        damaged("it should have " + std::to_string(header.bytes) + " bytes and has " + std::to_string(bytes));
    if (header.entries > (bytes - HEADER) / sizeof(Entry)) damaged("its directory reaches beyond its end");
    if (crc32(data_ + HEADER, bytes - HEADER) != header.checksum) damaged("the checksum does not match");
    entries_.resize(header.entries);
    if (header.entries) std::memcpy(entries_.data(), data_ + HEADER, header.entries * sizeof(Entry));
    uint64_t end = HEADER + header.entries * sizeof(Entry);
    for (const Entry& entry : entries_) {
        if (entry.name[sizeof entry.name - 1]) damaged("a name has no end");
        const uint64_t size = entry.type <= 3 ? size_of(static_cast<Type>(entry.type)) : 0;
        if (!size) damaged(std::string(entry.name) + " has an unknown type");
        if (entry.offset % 64 || entry.offset > bytes || entry.count > (bytes - entry.offset) / size)
            damaged(std::string(entry.name) + " reaches beyond the end");
        if (entry.offset < end) damaged(std::string(entry.name) + " lies within what comes before it");  // else memory
        end = entry.offset + entry.count * size;  // could be asked for that no byte stands for
    }
    std::sort(entries_.begin(), entries_.end(), before);
    for (size_t n = 1; n < entries_.size(); ++n)
        if (!before(entries_[n - 1], entries_[n])) damaged(std::string(entries_[n].name) + " is there twice");
}

bool Blob::before(const Entry& a, const Entry& b) { return std::strcmp(a.name, b.name) < 0; }

const Blob::Entry* Blob::find(const std::string& name) const {
    const auto found =
        std::lower_bound(entries_.begin(), entries_.end(), name,
                         [](const Entry& entry, const std::string& sought) { return sought.compare(entry.name) > 0; });
    return found != entries_.end() && name == found->name ? &*found : nullptr;
}

uint64_t Blob::length(const std::string& name) const {
    const Entry* entry = find(name);
    if (!entry) damaged(name + " is missing");
    return entry->count;
}

const void* Blob::checked(const std::string& name, Type type, uint64_t count) const {
    const Entry* entry = find(name);
    if (!entry) damaged(name + " is missing");
    if (entry->type != static_cast<uint32_t>(type)) damaged(name + " has another type than it should");
    if (entry->count != count)
        damaged(name + " has " + std::to_string(entry->count) + " values and should have " + std::to_string(count));
    return data_ + entry->offset;
}

template <>
const float* Blob::array<float>(const std::string& name, uint64_t count) const {
    return static_cast<const float*>(checked(name, Type::float32, count));
}
template <>
const double* Blob::array<double>(const std::string& name, uint64_t count) const {
    return static_cast<const double*>(checked(name, Type::float64, count));
}
template <>
const int8_t* Blob::array<int8_t>(const std::string& name, uint64_t count) const {
    return static_cast<const int8_t*>(checked(name, Type::int8, count));
}
template <>
const int32_t* Blob::array<int32_t>(const std::string& name, uint64_t count) const {
    return static_cast<const int32_t*>(checked(name, Type::int32, count));
}

}  // namespace gaq
