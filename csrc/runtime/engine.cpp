#include "runtime/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gemm/checks.h"
#include "runtime/failure.h"

namespace gaq {
namespace {

void require_finite(const char* name, const double* values, size_t atoms, size_t each) {
    for (size_t n = 0; values && n < atoms * each; ++n)
        if (!std::isfinite(values[n]))
            throw Failure(GAQ_NOT_FINITE, std::string(name) + " of atom " + std::to_string(n / each) + " is not finite");
}

template <size_t size>
void copy_text(char (&to)[size], const std::string& from) {
    static_assert(size > 0, "there is room for the end");
    std::memset(to, 0, size);
    std::memcpy(to, from.data(), std::min(from.size(), size - 1));
}

}  // namespace

Isa choose_isa(const char* name) {
    std::string there;
    Isa best = Isa::scalar;
    for (const Isa isa : ALL_ISAS) {
        if (!available(isa)) continue;
        if (name && std::strcmp(name, name_of(isa)) == 0) return isa;
        there += std::string(there.empty() ? "'" : ", '") + name_of(isa) + "'";
        best = isa;
    }
    if (!name || !*name) return best;
    throw Failure(GAQ_NO_SUCH_ISA, std::string("instruction set '") + name + "' is not available here; take " + there);
}

Engine::Engine(const void* blob, size_t bytes, const char* isa, int threads) : isa_(choose_isa(isa)), pool_(threads) {
    if (!checks_of(isa_).self_test())
        throw Failure(GAQ_BROKEN_MACHINE, std::string("the self-test of instruction set '") + name_of(isa_) +
                                              "' found wrong products; choose another one");
    std::vector<uint64_t> aligned;  // arrays are read in place
    if (reinterpret_cast<uintptr_t>(blob) % 8) {
        aligned.resize((bytes + 7) / 8);
        std::memcpy(aligned.data(), blob, bytes);
        blob = aligned.data();
    }
    const Blob given(blob, bytes);
    kind_ = given.kind();
    model_ = make_model(given, isa_, pool_);
    std::fill(std::begin(index_of_), std::end(index_of_), -1);
    const std::vector<int32_t>& species = model_->facts().species;
    for (size_t n = 0; n < species.size(); ++n) index_of_[species[n]] = int32_t(n);
}

void Engine::take(std::unique_ptr<PairList> pairs) {
    pairs_.reset();  // whatever fails from here on leaves no graph
    model_->set_graph(pairs->schedule());
    pairs_ = std::move(pairs);
}

void Engine::set_graph(int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers,
                       const int64_t* neighbours, const double* offsets) {
    take(std::make_unique<PairList>(index_of_, atoms, species, edges, centers, neighbours, offsets));
}

void Engine::set_offsets(int64_t edges, const double* offsets) {
    if (!pairs_) throw Failure(GAQ_BAD_ARGUMENT, "set a graph before its offsets");
    if (edges != pairs_->edges())
        throw Failure(GAQ_BAD_ARGUMENT, "the graph has " + std::to_string(pairs_->edges()) +
                                            " edges, and offsets were given for " + std::to_string(edges));
    if (!pairs_->replace_offsets(offsets)) take(std::make_unique<PairList>(pairs_->with_offsets(index_of_, offsets)));
}

void Engine::compute(const double* positions, double* energies, double* forces, double* virials) {
    if (!pairs_) throw Failure(GAQ_BAD_ARGUMENT, "set a graph before computing");
    if (!positions) throw Failure(GAQ_BAD_ARGUMENT, "positions are null");
    const size_t N = size_t(atoms());
    require_finite("position", positions, N, 3);
    model_->compute(positions, energies, forces, virials);
    require_finite("energy", energies, N, 1);
    require_finite("force", forces, N, 3);
    require_finite("virial", virials, N, 9);
}

gaq_facts Engine::facts() const {
    gaq_facts facts{};
    const ModelFacts& model = model_->facts();
    copy_text(facts.isa, name_of(isa_));
    facts.threads = pool_.threads();
    facts.quantizers = model.quantizers;
    facts.weight_bytes = model.weight_bytes;
    facts.table_bytes = model.table_bytes;
    facts.workspace_bytes = model_->workspace_bytes();
    facts.pairs = pairs_ ? model_->pairs() : 0;
    return facts;
}

gaq_model_facts Engine::model_facts() const {
    gaq_model_facts facts{};
    const ModelFacts& model = model_->facts();
    copy_text(facts.kind, kind_);
    facts.blob_version = Blob::VERSION;
    facts.hops = model.hops;
    facts.rounding_hops = model.rounding_hops;
    facts.cutoff = model.cutoff;
    facts.takes_charge = model.takes_charge;
    facts.takes_spin = model.takes_spin;
    facts.species_count = int32_t(model.species.size());
    std::copy(model.species.begin(), model.species.end(), facts.species);
    return facts;
}

}  // namespace gaq
