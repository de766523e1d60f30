// A rotation for each atom that turns with the molecule, and its matrices D^l; as gaq.so3.local_frames and wigner_d.
#pragma once

#include "geometry.h"

namespace gaq {
namespace GAQ_ISA {

// State::surroundings holds, for each atom: own tensor (6), tensor so far (6), what neighbours add (6), total (1).
constexpr int OWN = 0, SO_FAR = 6, ADDED = 12, TOTAL = 18, SURROUNDINGS = 19;

// One pass over pairs: first the atoms' own tensors, later what the neighbours' tensors add.
inline void surround(Job& job, int task, int round) {
    const Near& near = job.near;
    for (int p = near.begin[task]; p < near.end[task]; ++p) {
        const double* u = near.vector + 4 * size_t(p);
        double slope;
        const double weight = envelope(*job.model, u[3], &slope);
        const int i = near.i[p], j = near.j[p];
        const double back = near.record[size_t(p) * near.record_stride + BACK];
        const double wi = weight * job.plan.numbers[j], wj = back * weight * job.plan.numbers[i];
        double* a = job.state.surroundings + size_t(i) * SURROUNDINGS;
        double* b = job.state.surroundings + size_t(j) * SURROUNDINGS;
        if (round == 0) {
            const double products[6] = {u[0] * u[0], u[1] * u[0], u[1] * u[1], u[2] * u[0], u[2] * u[1], u[2] * u[2]};
            for (int k = 0; k < 6; ++k) a[OWN + k] += wi * products[k];
            for (int k = 0; k < 6; ++k) b[OWN + k] += wj * products[k];
        } else {
            for (int k = 0; k < 6; ++k) a[ADDED + k] += wi * b[SO_FAR + k];
            for (int k = 0; k < 6; ++k) b[ADDED + k] += wj * a[SO_FAR + k];
        }
    }
}

inline void settle(Job& job, int begin, int end, int round) {
    for (int i = begin; i < end; ++i) {
        double* a = job.state.surroundings + size_t(i) * SURROUNDINGS;
        if (round == 0) {
            const double total = a[OWN] + a[OWN + 2] + a[OWN + 5];
            a[TOTAL] = total > 2.2250738585072014e-308 ? total : 2.2250738585072014e-308;
        }
        for (int k = 0; k < 6; ++k) {
            a[SO_FAR + k] = a[OWN + k] + (round ? job.model->spread * a[ADDED + k] / a[TOTAL] : 0.0);
            a[ADDED + k] = 0.0;
        }
    }
}

// Eigenvalues, ascending, and eigenvectors (columns of V) of a symmetric matrix by cyclic Jacobi rotations.
inline void eigen(double A[3][3], double* values, double V[3][3]) {
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) V[a][b] = a == b;
    for (int sweep = 0; sweep < 30; ++sweep) {
        const double off = A[0][1] * A[0][1] + A[0][2] * A[0][2] + A[1][2] * A[1][2];
        const double size = A[0][0] * A[0][0] + A[1][1] * A[1][1] + A[2][2] * A[2][2];
        if (off <= 1e-32 * size || off == 0.0) break;
        for (int p = 0; p < 2; ++p)
            for (int q = p + 1; q < 3; ++q) {
                if (A[p][q] == 0.0) continue;
                const double theta = (A[q][q] - A[p][p]) / (2 * A[p][q]);
                const double root = __builtin_sqrt(theta * theta + 1);
                const double t = theta >= 0 ? 1 / (theta + root) : 1 / (theta - root);
                const double c = 1 / __builtin_sqrt(t * t + 1), s = t * c;
                const int r = 3 - p - q;
                const double pq = A[p][q], rp = A[r][p], rq = A[r][q];
                A[p][p] -= t * pq;
                A[q][q] += t * pq;
                A[p][q] = A[q][p] = 0.0;
                A[r][p] = A[p][r] = c * rp - s * rq;
                A[r][q] = A[q][r] = s * rp + c * rq;
                for (int k = 0; k < 3; ++k) {
                    const double kp = V[k][p], kq = V[k][q];
                    V[k][p] = c * kp - s * kq;
                    V[k][q] = s * kp + c * kq;
                }
            }
    }
    int order[3] = {0, 1, 2};
    for (int n = 0; n < 2; ++n)
        for (int k = 0; k < 2 - n; ++k)
            if (A[order[k]][order[k]] > A[order[k + 1]][order[k + 1]]) {
                const int held = order[k];
                order[k] = order[k + 1];
                order[k + 1] = held;
            }
    double sorted[3][3];
    for (int k = 0; k < 3; ++k) {
        values[k] = A[order[k]][order[k]];
        for (int a = 0; a < 3; ++a) sorted[a][k] = V[a][order[k]];
    }
    __builtin_memcpy(V, sorted, sizeof sorted);
}

// The frame of one atom: the axis that stands apart is the second column.
inline void frame_of(const double* T, double R[3][3]) {
    double A[3][3] = {{T[0], T[1], T[3]}, {T[1], T[2], T[4]}, {T[3], T[4], T[5]}}, values[3], V[3][3];
    eigen(A, values, V);
    const bool last = values[2] - values[1] > values[1] - values[0];
    const int column[3] = {last ? 0 : 1, last ? 2 : 0, last ? 1 : 2};
    for (int a = 0; a < 3; ++a)
        for (int k = 0; k < 3; ++k) R[a][k] = V[a][column[k]];
    const double det = R[0][0] * (R[1][1] * R[2][2] - R[1][2] * R[2][1]) - R[0][1] * (R[1][0] * R[2][2] - R[1][2] * R[2][0]) +
                       R[0][2] * (R[1][0] * R[2][1] - R[1][1] * R[2][0]);
    if (det < 0)
        for (int a = 0; a < 3; ++a)
            for (int k = 0; k < 3; ++k) R[a][k] = -R[a][k];
}

inline void orient(Job& job, int begin, int end) {
    const Model& m = *job.model;
    for (int i = begin; i < end; ++i) {
        double R[3][3];
        frame_of(job.state.surroundings + size_t(i) * SURROUNDINGS + SO_FAR, R);
        double* first = job.state.exact_frames + size_t(i) * job.state.frame_stride;
        double* D = first;
        for (int a = 0; a < 3; ++a)
            for (int k = 0; k < 3; ++k) *D++ = R[a][k];
        for (int l = 2; l <= m.shape.L; ++l) {  // D^l = (P Y(R X))^T from its values at fixed directions X
            const int n = 2 * l + 1, count = m.samples[l - 1];
            double matrix[2 * MAX_DEGREE + 1][2 * MAX_DEGREE + 1] = {};
            for (int p = 0; p < count; ++p) {
                const double* x = m.directions[l - 1] + 3 * p;
                double turned[3], Y[MAX_COMPONENTS];
                for (int a = 0; a < 3; ++a) turned[a] = R[a][0] * x[0] + R[a][1] * x[1] + R[a][2] * x[2];
                harmonics(turned[0], turned[1], turned[2], l, Y);
                for (int k = 0; k < n; ++k)
                    for (int a = 0; a < n; ++a) matrix[a][k] += m.inverse[l - 1][k * count + p] * Y[first_component(l) + a];
            }
            for (int a = 0; a < n; ++a)
                for (int k = 0; k < n; ++k) *D++ = matrix[a][k];
        }
        float* rounded = job.state.frames + size_t(i) * job.state.frame_stride;
        for (int k = 0; k < job.state.frame_stride; ++k) rounded[k] = float(first[k]);
    }
}

}  // namespace GAQ_ISA
}  // namespace gaq
