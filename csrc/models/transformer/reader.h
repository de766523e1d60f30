// From a blob to parameters whose memory an arena holds.
#pragma once

#include "models/transformer/parameters.h"
#include "runtime/blob.h"
#include "runtime/model.h"
#include "simd/arena.h"

namespace gaq::transformer {

// Throws Failure(GAQ_BAD_BLOB) for anything that is not a whole, sound model.
Parameters read_parameters(const Blob& blob, Arena& arena, ModelFacts& facts);

}  // namespace gaq::transformer
