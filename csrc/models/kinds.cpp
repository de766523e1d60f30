// The kinds of models that there are: one line for each.
#include "models/transformer/transformer.h"
#include "runtime/failure.h"
#include "runtime/model.h"

namespace gaq {
namespace {

struct Entry {
    const char* kind;
    std::unique_ptr<Model> (*make)(const Blob& blob, Isa isa, ThreadPool& pool);
};

constexpr Entry KINDS[] = {
    {"transformer", transformer::make},
};

}  // namespace

std::unique_ptr<Model> make_model(const Blob& blob, Isa isa, ThreadPool& pool) {
    std::string known;
    for (const Entry& entry : KINDS) {
        if (blob.kind() == entry.kind) return entry.make(blob, isa, pool);
        known += (known.empty() ? "" : ", ") + std::string(entry.kind);
    }
    throw Failure(GAQ_BAD_BLOB, "blob: its kind of model is '" + blob.kind() + "', and this library computes " + known);
}

}  // namespace gaq
