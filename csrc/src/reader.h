// From a blob to a model whose memory an arena holds.
#pragma once

#include "arena.h"
#include "blob.h"
#include "model.h"

namespace gaq {

struct Sizes {
    size_t weights = 0, tables = 0;
};

// Throws Failure(GAQ_BAD_BLOB) for anything that is not a whole, sound model.
Model read_model(const Blob& blob, Arena& arena, Sizes& sizes);

}  // namespace gaq
