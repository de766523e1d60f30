/* Print the energy of a dimer of the first species that a model knows, at falling distances: `engine model.gaqblob`. */
#include <stdio.h>
#include <stdlib.h>

#include "gaq_engine.h"

static int fail(const char* what, const char* why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

/* The bytes of a file, or NULL. */
static char* read_file(const char* path, size_t* bytes) {
    FILE* file = fopen(path, "rb");
    char* data = NULL;
    if (!file) return NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        const long size = ftell(file);
        rewind(file);
        if (size > 0) data = (char*)malloc((size_t)size);
        *bytes = data ? fread(data, 1, (size_t)size, file) : 0;
    }
    fclose(file);
    return data;
}

static int scan(gaq_engine* engine, const gaq_model_facts* model) {
    const int64_t species[2] = {model->species[0], model->species[0]}, centers[2] = {0, 1}, neighbours[2] = {1, 0};
    double distance;
    if (gaq_engine_set_graph(engine, 2, species, 2, centers, neighbours, NULL)) return 1;
    for (distance = model->cutoff; distance > 0.3 * model->cutoff; distance *= 0.8) {
        const double positions[6] = {0.0, 0.0, 0.0, distance, 0.0, 0.0};
        double energies[2], forces[6];
        if (gaq_engine_compute(engine, positions, energies, forces, NULL)) return 1;
        printf("%.3f Angstrom: %.6f eV, %.6f eV/Angstrom\n", distance, energies[0] + energies[1], forces[3]);
    }
    return 0;
}

int main(int count, char** arguments) {
    gaq_engine* engine = NULL;
    gaq_model_facts model;
    char why[256] = "";
    size_t bytes = 0;
    char* blob = count == 2 ? read_file(arguments[1], &bytes) : NULL;
    int failed;
    if (gaq_abi_version() != GAQ_ABI_VERSION) return fail("library", "another version than the header");
    if (!blob) return fail("usage", "engine model.gaqblob");
    if (gaq_engine_create(blob, bytes, NULL, 1, &engine, why, sizeof why)) return fail(arguments[1], why);
    free(blob); /* an engine keeps what it needs */
    model.size = sizeof model;
    gaq_engine_model_facts(engine, &model);
    printf("%s: %d species, cutoff %.2f Angstrom, %d hops\n", model.kind, (int)model.species_count, model.cutoff,
           (int)model.hops);
    failed = scan(engine, &model);
    if (failed) fail("engine", gaq_engine_message(engine));
    gaq_engine_destroy(engine);
    return failed;
}
