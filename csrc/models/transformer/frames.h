// A rotation for each atom that turns with the molecule, and its matrices D^l; as gaq.rotations.local_frames and wigner_d.
#pragma once

#include "models/transformer/geometry.h"

namespace gaq::transformer::GAQ_ISA {

// Workspace::frame_tensors holds, for each atom: own tensor (6), current tensor (6), what it receives from neighbours (6),
// trace of its own (1).
constexpr int OWN = 0, CURRENT = 6, RECEIVED = 12, TRACE = 18;

// One pass over pairs: first the atoms' own tensors, later what the neighbours' tensors add.
inline void add_frame_tensors(Arguments& args, int task, int round) {
    const Pairs& pairs = args.pairs;
    for (int p = pairs.begin[task]; p < pairs.end[task]; ++p) {
        const double* u = pairs.vector + 4 * size_t(p);
        double slope;
        const int i = pairs.i[p], j = pairs.j[p];
        const double weight = envelope(*args.parameters, seen_distance(repulsion_of(args, i, j), u[3], &slope), &slope);
        const double back = pairs.record[size_t(p) * pairs.record_stride + BACK];
        const double wi = weight * args.schedule.numbers[j], wj = back * weight * args.schedule.numbers[i];
        double* a = args.work.frame_tensors + size_t(i) * FRAME_TENSORS;
        double* b = args.work.frame_tensors + size_t(j) * FRAME_TENSORS;
        if (round == 0) {
            const double products[6] = {u[0] * u[0], u[1] * u[0], u[1] * u[1], u[2] * u[0], u[2] * u[1], u[2] * u[2]};
            for (int k = 0; k < 6; ++k) a[OWN + k] += wi * products[k];
            for (int k = 0; k < 6; ++k) b[OWN + k] += wj * products[k];
        } else {
            for (int k = 0; k < 6; ++k) a[RECEIVED + k] += wi * b[CURRENT + k];
            for (int k = 0; k < 6; ++k) b[RECEIVED + k] += wj * a[CURRENT + k];
        }
    }
}

inline void update_frame_tensors(Arguments& args, int begin, int end, int round) {
    for (int i = begin; i < end; ++i) {
        double* a = args.work.frame_tensors + size_t(i) * FRAME_TENSORS;
        if (round == 0) {
            const double total = a[OWN] + a[OWN + 2] + a[OWN + 5];
            a[TRACE] = total > 2.2250738585072014e-308 ? total : 2.2250738585072014e-308;
        }
        for (int k = 0; k < 6; ++k) {
            a[CURRENT + k] = a[OWN + k] + (round ? args.parameters->spread * a[RECEIVED + k] / a[TRACE] : 0.0);
            a[RECEIVED + k] = 0.0;
        }
    }
}

// Make eight symmetric matrices diagonal by cyclic Jacobi rotations, A = V diag V^T; lanes know nothing of each other.
inline void diagonalize(Doubles A[3][3], Doubles V[3][3]) {
    const Doubles zero = {}, one = zero + 1.0;
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) V[a][b] = a == b ? one : zero;
    for (int sweep = 0; sweep < 30; ++sweep) {
        const Doubles off = A[0][1] * A[0][1] + A[0][2] * A[0][2] + A[1][2] * A[1][2];
        const Doubles size = A[0][0] * A[0][0] + A[1][1] * A[1][1] + A[2][2] * A[2][2];
        const Doubles turning = off > 1e-32 * size ? one : zero;
        bool any = false;
        for (int k = 0; k < 8; ++k) any |= turning[k] != 0.0;
        if (!any) return;
        for (int p = 0; p < 2; ++p)
            for (int q = p + 1; q < 3; ++q) {
                const int r = 3 - p - q;
                const Doubles pq = A[p][q], rp = A[r][p], rq = A[r][q];
                const Doubles theta = (A[q][q] - A[p][p]) / (pq == 0.0 ? one : 2.0 * pq);
                Doubles root, secant;
                sqrt(theta * theta + 1.0, root);
                const Doubles tangent = turning / (theta >= 0.0 ? theta + root : theta - root),
                              t = pq == 0.0 ? zero : tangent;
                sqrt(t * t + 1.0, secant);
                const Doubles c = 1.0 / secant, s = t * c;
                A[p][p] -= t * pq;
                A[q][q] += t * pq;
                A[p][q] = A[q][p] = turning == 0.0 ? pq : zero;
                A[r][p] = A[p][r] = c * rp - s * rq;
                A[r][q] = A[q][r] = s * rp + c * rq;
                for (int a = 0; a < 3; ++a) {
                    const Doubles ap = V[a][p], aq = V[a][q];
                    V[a][p] = c * ap - s * aq;
                    V[a][q] = s * ap + c * aq;
                }
            }
    }
}

// The frame of lane k, from eigenvalues and eigenvectors: the axis that stands apart is the second column.
inline void frame_of(const Doubles A[3][3], const Doubles V[3][3], int k, double R[3][3]) {
    int order[3] = {0, 1, 2};  // ascending
    for (int n = 0; n < 2; ++n)
        for (int b = 0; b < 2 - n; ++b)
            if (A[order[b]][order[b]][k] > A[order[b + 1]][order[b + 1]][k]) {
                const int held = order[b];
                order[b] = order[b + 1];
                order[b + 1] = held;
            }
    const double low = A[order[0]][order[0]][k], middle = A[order[1]][order[1]][k], high = A[order[2]][order[2]][k];
    const bool last = high - middle > middle - low;
    const int column[3] = {order[last ? 0 : 1], order[last ? 2 : 0], order[last ? 1 : 2]};
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) R[a][b] = V[a][column[b]][k];
    const double det = R[0][0] * (R[1][1] * R[2][2] - R[1][2] * R[2][1]) -
                       R[0][1] * (R[1][0] * R[2][2] - R[1][2] * R[2][0]) +
                       R[0][2] * (R[1][0] * R[2][1] - R[1][1] * R[2][0]);
    if (det < 0)
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b) R[a][b] = -R[a][b];
}

inline void local_frames(Arguments& args, int begin, int end) {
    const Parameters& m = *args.parameters;
    Doubles A[3][3], V[3][3];
    for (int i = begin; i < end; ++i) {
        const int lane = (i - begin) % 8;
        for (int k = 0; lane == 0 && k < 8; ++k) {
            const double* T = args.work.frame_tensors + size_t(i + k < end ? i + k : i) * FRAME_TENSORS + CURRENT;
            for (int a = 0; a < 3; ++a)
                for (int b = 0; b <= a; ++b) A[a][b][k] = A[b][a][k] = T[a * (a + 1) / 2 + b];
        }
        if (lane == 0) diagonalize(A, V);
        double R[3][3];
        frame_of(A, V, lane, R);
        double* first = args.work.exact_frames + size_t(i) * args.work.frame_stride;
        double* D = first;
        for (int a = 0; a < 3; ++a)
            for (int k = 0; k < 3; ++k) *D++ = R[a][k];
        for (int l = 2; l <= m.shape.L; ++l) {  // D^l = (P Y(R X))^T from its values at fixed directions X
            const int n = 2 * l + 1, count = m.samples[l - 1];
            double matrix[2 * MAX_DEGREE + 1][2 * MAX_DEGREE + 1] = {};
            for (int p = 0; p < count; ++p) {
                const double* x = m.directions[l - 1] + 3 * p;
                double rotated[3], Y[MAX_COMPONENTS];
                for (int a = 0; a < 3; ++a) rotated[a] = R[a][0] * x[0] + R[a][1] * x[1] + R[a][2] * x[2];
                harmonics(rotated[0], rotated[1], rotated[2], l, Y);
                for (int k = 0; k < n; ++k)
                    for (int a = 0; a < n; ++a) matrix[a][k] += m.inverse[l - 1][k * count + p] * Y[first_component(l) + a];
            }
            for (int a = 0; a < n; ++a)
                for (int k = 0; k < n; ++k) *D++ = matrix[a][k];
        }
        float* rounded = args.work.frames + size_t(i) * args.work.frame_stride;
        for (int k = 0; k < args.work.frame_stride; ++k) rounded[k] = float(first[k]);
    }
}

}  // namespace gaq::transformer::GAQ_ISA
