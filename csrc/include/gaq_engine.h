/* The native engine of gaq: per-atom energies, forces and virials of a frozen force field.
 *
 * A force field is exported to one file (`gaq export MODEL --out model.gaqblob`; docs/format.md describes it); an engine is
 * made from the bytes of that file, told a graph, and asked for energies and forces at positions. Reading or mapping the
 * file is the caller's: an engine copies what it needs. Units are eV, Angstrom and eV/Angstrom; arrays are row-major and
 * contiguous.
 *
 *     gaq_engine* engine = NULL;
 *     char why[256];
 *     if (gaq_engine_create(blob, bytes, NULL, 1, &engine, why, sizeof why) != GAQ_OK) ...
 *     gaq_engine_set_graph(engine, atoms, species, edges, centers, neighbours, offsets);
 *     for (;;) gaq_engine_compute(engine, positions, energies, forces, NULL);
 *     gaq_engine_destroy(engine);
 *
 * examples/engine.c is a whole program. Nothing is thrown, printed or kept outside of an engine. After the first compute of
 * a graph, further ones allocate no memory.
 *
 * Ownership: several engines may work in several threads at once. One engine serves one call at a time, and a second call
 * meanwhile returns GAQ_BUSY and changes nothing; it holds one graph, so that whoever shares an engine between threads has
 * to hold a lock of their own from gaq_engine_set_graph over the computes or the run that belong to it. Arrays belong to
 * the caller, and are read and written during the call only. After a fork the child may use and destroy the engines that
 * it inherits, which then start threads of their own; one that was in the middle of a call stays GAQ_BUSY there.
 *
 * Versions: a program compares gaq_abi_version() with GAQ_ABI_VERSION. It changes when what is here changes its meaning;
 * functions, and members at the end of the structs that begin with their size, may be added without.
 */
#ifndef GAQ_ENGINE_H
#define GAQ_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GAQ_API __declspec(dllexport)
#else
#define GAQ_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define GAQ_ABI_VERSION 2

typedef enum gaq_status {
    GAQ_OK = 0,
    GAQ_BAD_ARGUMENT = 1,    /* a null pointer, a negative count, an edge index out of range, an unknown option */
    GAQ_BAD_BLOB = 2,        /* truncated, damaged or foreign */
    GAQ_NO_SUCH_ISA = 3,     /* an instruction set that this processor or build does not have */
    GAQ_UNKNOWN_SPECIES = 4, /* an atomic number the model was not made for */
    GAQ_OVERLAP = 5,         /* two atoms closer than the model's table begins */
    GAQ_NOT_FINITE = 6,      /* positions, or a result, that are not finite */
    GAQ_NO_MEMORY = 7,
    GAQ_BROKEN_MACHINE = 8, /* the start-up self-test: an instruction path gives wrong products */
    GAQ_INTERNAL = 9,
    GAQ_BUSY = 10 /* another call on this engine is under way */
} gaq_status;

typedef struct gaq_engine gaq_engine;

#define GAQ_MAX_SPECIES 118 /* the largest atomic number */

/* Set `size` to the size of the struct as you know it: a library fills in as much, and zeros what it does not know. */
typedef struct gaq_facts {
    uint64_t size; /* in: sizeof(gaq_facts) */
    char isa[16];  /* "scalar", "avx2" or "avx512" */
    int32_t threads;
    int32_t quantizers;       /* number of activation quantizers, in the order of their counters in the blob */
    uint64_t weight_bytes;    /* weights, steps and biases as they are held */
    uint64_t table_bytes;     /* functions of one distance */
    uint64_t workspace_bytes; /* for the graphs seen so far */
    uint64_t pairs;           /* pairs within the cutoff at the last compute */
} gaq_facts;

/* What a model needs from whoever calls it. The energy of an atom depends on atoms up to hops * cutoff away; those beyond,
 * up to rounding_hops * cutoff, turn the local frames in which a low-bit model rounds, and nothing else. A program that
 * divides space gives each domain a halo as wide, and adds forces on atoms of the halo to those of the domain that owns
 * them. */
typedef struct gaq_model_facts {
    uint64_t size; /* in: sizeof(gaq_model_facts) */
    char kind[32]; /* which model: "transformer" */
    double cutoff; /* Angstrom */
    uint32_t blob_version;
    int32_t hops;
    int32_t rounding_hops; /* equal to hops where no frames are needed */
    int32_t takes_charge;  /* 1: a total charge belongs to the input; no model so far */
    int32_t takes_spin;    /* 1: a total spin does */
    int32_t species_count;
    int32_t species[GAQ_MAX_SPECIES]; /* atomic numbers, ascending */
} gaq_model_facts;

/* What a machine can do at most, measured on one core: 1e9 operations (multiply and add are two) or bytes per second. */
typedef struct gaq_ceilings {
    double float32, int16, int8, bandwidth;
} gaq_ceilings;

/* Velocity Verlet (friction 0) or Langevin dynamics (BAOAB). Units: amu, Angstrom, eV; time in Angstrom sqrt(amu/eV). */
typedef struct gaq_dynamics {
    double timestep, friction, temperature; /* friction in 1/time, temperature as kT in eV */
    uint64_t seed;                          /* of the noise, which depends on seed, step, atom and axis alone */
    int64_t step;                           /* in: of the state; out: reached */
    double max_displacement;                /* stop before the step that would take an atom this far from its reference */
    double max_kinetic;                     /* eV an atom: stop when the kinetic energy of a structure exceeds it */
} gaq_dynamics;

GAQ_API int gaq_abi_version(void);

/* The best instruction set of this processor and build. */
GAQ_API const char* gaq_best_isa(void);

/* Make an engine. The blob is copied; isa is NULL for the best; message receives the reason of a failure. */
GAQ_API gaq_status gaq_engine_create(const void* blob, size_t bytes, const char* isa, int threads, gaq_engine** engine,
                                     char* message, size_t capacity);

/* Free an engine; one with a call under way (a mistake, or a fork in its middle) is left as it is. */
GAQ_API void gaq_engine_destroy(gaq_engine* engine);

/* The reason of the last failure of this engine but GAQ_BUSY; valid until its next call. */
GAQ_API const char* gaq_engine_message(const gaq_engine* engine);

GAQ_API gaq_status gaq_engine_facts(const gaq_engine* engine, gaq_facts* facts);
GAQ_API gaq_status gaq_engine_model_facts(const gaq_engine* engine, gaq_model_facts* facts);

/* Set species (atomic numbers) and directed edges r = x[neighbour] - x[center] + offset, in both directions, any order.
 * offsets (edges, 3) may be NULL. Edges may reach beyond the cutoff (a Verlet skin): those that do have no effect. */
GAQ_API gaq_status gaq_engine_set_graph(gaq_engine* engine, int64_t atoms, const int64_t* species, int64_t edges,
                                        const int64_t* centers, const int64_t* neighbours, const double* offsets);

/* Change the offsets (edges, 3) of the edges of the graph, in the order in which it was set: the images stay and the cell
 * changes, as at constant pressure. Results are, to the bit, those of the graph set anew with these offsets. As with any
 * graph, all pairs within the cutoff must be among its edges. A failure leaves the graph as it was, or none. */
GAQ_API gaq_status gaq_engine_set_offsets(gaq_engine* engine, int64_t edges, const double* offsets);

/* energies (atoms,), forces (atoms, 3), virials (atoms, 9): sum over pairs of r (dE/dr)^T, whose sum is dE/d(strain).
 * Each may be NULL; forces and virials cost the backward pass. */
GAQ_API gaq_status gaq_engine_compute(gaq_engine* engine, const double* positions, double* energies, double* forces,
                                      double* virials);

/* Count values beyond the range of their codes since the engine was made: clipped and seen have facts.quantizers values. */
GAQ_API gaq_status gaq_engine_saturation(const gaq_engine* engine, uint64_t* clipped, uint64_t* seen);

/* Go on for up to `steps` steps from positions, velocities and forces (atoms, 3), all updated in place; potential and
 * kinetic receive the energies at the end, one value for each of `structures` (batch gives that of each atom). An atom of
 * infinite mass and velocity 0 stays where it is.
 * Returns early, with dynamics->step below the goal, before a step for which the graph must be made anew (at positions,
 * which are the new reference), and after a step with a kinetic energy beyond `max_kinetic`. A failure leaves
 * dynamics->step and all arrays as they were after the last whole step. */
GAQ_API gaq_status gaq_engine_run(gaq_engine* engine, gaq_dynamics* dynamics, int64_t steps, const double* masses,
                                  const int32_t* batch, int32_t structures, const double* reference, double* positions,
                                  double* velocities, double* forces, double* potential, double* kinetic);

GAQ_API gaq_status gaq_measure_ceilings(const char* isa, gaq_ceilings* ceilings);

#ifdef __cplusplus
}
#endif
#endif
