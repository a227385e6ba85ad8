/* The floor: a training step of the default model fused by hand, for one size that is known when it is compiled.
 *
 * Forward, back and Adam in doubles, as a C programmer would write them for speed: no tape, no shapes to look up,
 * documents that are encoded beforehand. A weight is [n_out][n_in]; activations have a row a token,
 * of one document after another.
 *
 *     cc -O3 -march=native -DN_EMBD=16 -DBATCH=1 -DN_LAYER=1 -DBLOCK=16 -DVOCAB=27 floor.c -lm -o floor
 *     ./floor FILE losses 50      the losses of the first 50 steps
 *     ./floor FILE time 5000      seconds of CPU a step
 *
 * FILE is written by floor.py: four numbers of Adam, the length of the schedule, the weights, the documents.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N N_EMBD
#define HEADS 4
#define SIZE (N / HEADS) /* of a head */
#define ROWS (BATCH * BLOCK)
#define PADDED ((VOCAB + 7) / 8 * 8)
#define EPS 1e-5

typedef struct {
    double qkv[3 * N][N], wo[N][N], fc1[4 * N][N], fc2[N][4 * N];
} Layer;
typedef struct {
    double wte[VOCAB][N], wpe[BLOCK][N], lm_head[VOCAB][N];
    Layer layers[N_LAYER];
} Weights;
#define COUNT ((long)(sizeof(Weights) / sizeof(double)))

/* What a layer keeps for the way back. */
typedef struct {
    double x[ROWS][N], scale1[ROWS], normed1[ROWS][N], qkv[ROWS][3 * N], mixed[ROWS][N];
    double probs[BATCH][HEADS][BLOCK][BLOCK];
    double middle[ROWS][N], scale2[ROWS], normed2[ROWS][N], hidden[ROWS][4 * N];
} Kept;

static _Alignas(64) Weights w, g, m, v;
static _Alignas(64) Kept kept[N_LAYER];
static _Alignas(64) double x[ROWS][N], embd_scale[ROWS], logits[ROWS][PADDED];
static _Alignas(64) double dx[ROWS][N], dh[ROWS][4 * N], dn[ROWS][N], dqkv[ROWS][3 * N];
static _Alignas(64) double turned[4 * N * N + N * PADDED], keys_turned[N][BLOCK], scores[BLOCK][BLOCK];

static double lr, beta1, beta2, eps;
static long num_steps, num_documents, done;
static int64_t *lengths, **documents; /* ids with BOS at both ends */
static long rows, starts[BATCH + 1], tokens[ROWS], targets[ROWS];

/* ----------------------------------------------------------------------------------------------- products */

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* C [rows][n] = A B, or C + A B, where A(r, k) stands at a + r * a_row + k * a_term, and n is a multiple of WIDTH. */
#define DEFINE_MATMUL(WIDTH)                                                                             \
    typedef double vec##WIDTH __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));            \
    INLINE void block##WIDTH(const int height, const int count, const int adds, double *c, long ldc,     \
                             const double *a, long a_row, long a_term, const double *b, long ldb,        \
                             long terms) {                                                               \
        vec##WIDTH sums[4][4];                                                                           \
        UNROLL for (int r = 0; r < height; r++) UNROLL for (int i = 0; i < count; i++)                   \
            sums[r][i] = adds ? *(vec##WIDTH *)(c + r * ldc + WIDTH * i) : (vec##WIDTH){0};              \
        for (long k = 0; k < terms; k++)                                                                 \
            UNROLL for (int r = 0; r < height; r++) {                                                    \
                double factor = a[r * a_row + k * a_term];                                               \
                UNROLL for (int i = 0; i < count; i++)                                                   \
                    sums[r][i] += factor * *(const vec##WIDTH *)(b + k * ldb + WIDTH * i);               \
            }                                                                                            \
        UNROLL for (int r = 0; r < height; r++) UNROLL for (int i = 0; i < count; i++)                   \
            *(vec##WIDTH *)(c + r * ldc + WIDTH * i) = sums[r][i];                                       \
    }                                                                                                    \
    INLINE void panel##WIDTH(const int count, const int adds, double *c, long ldc, const double *a,      \
                             long a_row, long a_term, const double *b, long ldb, long height, long terms) { \
        for (; height >= 4; height -= 4, c += 4 * ldc, a += 4 * a_row)                                   \
            block##WIDTH(4, count, adds, c, ldc, a, a_row, a_term, b, ldb, terms);                       \
        if (height == 3) block##WIDTH(3, count, adds, c, ldc, a, a_row, a_term, b, ldb, terms);          \
        if (height == 2) block##WIDTH(2, count, adds, c, ldc, a, a_row, a_term, b, ldb, terms);          \
        if (height == 1) block##WIDTH(1, count, adds, c, ldc, a, a_row, a_term, b, ldb, terms);          \
    }                                                                                                    \
    INLINE void matmul##WIDTH(const int adds, double *c, long ldc, const double *a, long a_row,          \
                              long a_term, const double *b, long ldb, long height, long terms,           \
                              const long n) {                                                            \
        long at = 0;                                                                                     \
        for (; n - at >= 4 * WIDTH; at += 4 * WIDTH)                                                     \
            panel##WIDTH(4, adds, c + at, ldc, a, a_row, a_term, b + at, ldb, height, terms);            \
        for (; n - at >= 2 * WIDTH; at += 2 * WIDTH)                                                     \
            panel##WIDTH(2, adds, c + at, ldc, a, a_row, a_term, b + at, ldb, height, terms);            \
        for (; n - at >= WIDTH; at += WIDTH)                                                             \
            panel##WIDTH(1, adds, c + at, ldc, a, a_row, a_term, b + at, ldb, height, terms);            \
    }
DEFINE_MATMUL(4)
DEFINE_MATMUL(8)

INLINE void matmul(const int adds, double *c, long ldc, const double *a, long a_row, long a_term, const double *b,
                   long ldb, long height, long terms, const long n) {
    if (n % 8 == 0)
        matmul8(adds, c, ldc, a, a_row, a_term, b, ldb, height, terms, n);
    else
        matmul4(adds, c, ldc, a, a_row, a_term, b, ldb, height, terms, n);
}

INLINE void transpose(double *out, long ld, const double *from, long from_ld, long height, long n) {
    for (long at = 0; at < height; at += 8) /* eight rows stay in the nearest cache */
        for (long j = 0; j < n; j++)
            for (long i = at; i < (at + 8 < height ? at + 8 : height); i++) out[j * ld + i] = from[i * from_ld + j];
}

/* y [rows][n_out], or y + that, from x [rows][n_in] and a weight [n_out][n_in]. */
INLINE void linear(const int adds, double *y, const double *from, const double *weight, const long n_out,
                   const long n_in) {
    const long ld = (n_out + 7) / 8 * 8; /* what lies behind n_out is never read */
    transpose(turned, ld, weight, n_in, n_out, n_in);
    matmul(adds, y, ld, from, n_in, 1, turned, ld, rows, n_in, ld);
}

/* The gradients of x and of the weight, from that of y, whose rows lie ld apart. */
INLINE void linear_back(double *d_from, double *d_weight, const double *dy, const long ld, const double *from,
                        const double *weight, const long n_out, const long n_in) {
    matmul(0, d_from, n_in, dy, ld, 1, weight, n_in, rows, n_out, n_in);
    matmul(0, d_weight, n_in, dy, 1, ld, from, n_in, n_out, rows, n_in);
}

/* ----------------------------------------------------------------------------------------------- the model */

INLINE void norm(double y[][N], double *scales, double from[][N]) {
    for (long t = 0; t < rows; t++) {
        double sum = 0.0;
        for (long i = 0; i < N; i++) sum += from[t][i] * from[t][i];
        double scale = scales[t] = 1.0 / sqrt(sum / N + EPS);
        for (long i = 0; i < N; i++) y[t][i] = from[t][i] * scale;
    }
}

/* Adds to d_from, or overwrites it. */
INLINE void norm_back(const int adds, double d_from[][N], double dy[][N], double y[][N], const double *scales) {
    for (long t = 0; t < rows; t++) {
        double sum = 0.0;
        for (long i = 0; i < N; i++) sum += dy[t][i] * y[t][i];
        double mean = sum / N;
        for (long i = 0; i < N; i++)
            d_from[t][i] = (adds ? d_from[t][i] : 0.0) + scales[t] * (dy[t][i] - y[t][i] * mean);
    }
}

INLINE void softmax(double *p, const double *from, long n) {
    double top = from[0], sum = 0.0;
    for (long i = 1; i < n; i++) top = from[i] > top ? from[i] : top;
    for (long i = 0; i < n; i++) p[i] = exp(from[i] - top);
    for (long i = 0; i < n; i++) sum += p[i];
    double scale = 1.0 / sum;
    for (long i = 0; i < n; i++) p[i] *= scale;
}

/* Of each document and head; a row of probabilities is 0 behind its own key. */
static void attention(Kept *k) {
    const double scale = 1.0 / sqrt(SIZE);
    for (long d = 0; d < BATCH; d++) {
        long first = starts[d], n = starts[d + 1] - first;
        double(*qkv)[3 * N] = k->qkv + first;
        transpose(keys_turned[0], BLOCK, qkv[0] + N, 3 * N, n, N);
        for (long h = 0; h < HEADS; h++) {
            double(*p)[BLOCK] = k->probs[d][h];
            matmul(0, p[0], BLOCK, qkv[0] + h * SIZE, 3 * N, 1, keys_turned[h * SIZE], BLOCK, n, SIZE, BLOCK);
            for (long t = 0; t < n; t++) {
                for (long s = 0; s <= t; s++) p[t][s] *= scale;
                softmax(p[t], p[t], t + 1);
                for (long s = t + 1; s < BLOCK; s++) p[t][s] = 0.0;
            }
            matmul(0, k->mixed[first] + h * SIZE, N, p[0], BLOCK, 1, qkv[0] + 2 * N + h * SIZE, 3 * N, n, n, SIZE);
        }
    }
}

static void attention_back(Kept *k, double d_mixed[][N]) {
    const double scale = 1.0 / sqrt(SIZE);
    for (long d = 0; d < BATCH; d++) {
        long first = starts[d], n = starts[d + 1] - first;
        double(*qkv)[3 * N] = k->qkv + first, *dy = d_mixed[first], *back = dqkv[first];
        transpose(keys_turned[0], BLOCK, qkv[0] + 2 * N, 3 * N, n, N); /* the values */
        for (long h = 0; h < HEADS; h++) {
            double(*p)[BLOCK] = k->probs[d][h];
            const long at = h * SIZE;
            matmul(0, scores[0], BLOCK, dy + at, N, 1, keys_turned[at], BLOCK, n, SIZE, BLOCK);
            for (long t = 0; t < n; t++) {
                double mean = 0.0;
                for (long s = 0; s <= t; s++) mean += p[t][s] * scores[t][s];
                for (long s = 0; s < BLOCK; s++) scores[t][s] = p[t][s] * (scores[t][s] - mean) * scale;
            }
            matmul(0, back + at, 3 * N, scores[0], BLOCK, 1, qkv[0] + N + at, 3 * N, n, n, SIZE);
            matmul(0, back + N + at, 3 * N, scores[0], 1, BLOCK, qkv[0] + at, 3 * N, n, n, SIZE);
            matmul(0, back + 2 * N + at, 3 * N, p[0], 1, BLOCK, dy + at, N, n, n, SIZE);
        }
    }
}

/* The next documents: their tokens, and the token that follows each. */
static void next_batch(void) {
    rows = 0;
    for (long i = 0; i < BATCH; i++) {
        long which = (done * BATCH + i) % num_documents, n = lengths[which] - 1;
        n = n < BLOCK ? n : BLOCK;
        starts[i] = rows;
        for (long t = 0; t < n; t++, rows++) {
            tokens[rows] = documents[which][t];
            targets[rows] = documents[which][t + 1];
        }
    }
    starts[BATCH] = rows;
}

static double forward(void) {
    for (long d = 0; d < BATCH; d++)
        for (long t = starts[d]; t < starts[d + 1]; t++)
            for (long i = 0; i < N; i++) x[t][i] = w.wte[tokens[t]][i] + w.wpe[t - starts[d]][i];
    norm(kept[0].x, embd_scale, x);
    for (long l = 0; l < N_LAYER; l++) {
        Kept *k = kept + l;
        const Layer *of = w.layers + l;
        norm(k->normed1, k->scale1, k->x);
        linear(0, k->qkv[0], k->normed1[0], of->qkv[0], 3 * N, N);
        attention(k);
        memcpy(k->middle, k->x, sizeof(double) * (size_t)(rows * N));
        linear(1, k->middle[0], k->mixed[0], of->wo[0], N, N);
        norm(k->normed2, k->scale2, k->middle);
        linear(0, k->hidden[0], k->normed2[0], of->fc1[0], 4 * N, N);
        for (long t = 0; t < rows; t++)
            for (long i = 0; i < 4 * N; i++) k->hidden[t][i] = k->hidden[t][i] > 0.0 ? k->hidden[t][i] : 0.0;
        double(*next)[N] = l + 1 < N_LAYER ? kept[l + 1].x : x;
        memcpy(next, k->middle, sizeof(double) * (size_t)(rows * N));
        linear(1, next[0], k->hidden[0], of->fc2[0], N, 4 * N);
    }
    linear(0, logits[0], x[0], w.lm_head[0], VOCAB, N);
    double loss = 0.0;
    for (long t = 0; t < rows; t++) {
        softmax(logits[t], logits[t], VOCAB);
        loss -= log(logits[t][targets[t]]);
    }
    return loss / (double)rows;
}

static void back(void) {
    double share = 1.0 / (double)rows;
    for (long t = 0; t < rows; t++) {
        logits[t][targets[t]] -= 1.0;
        for (long i = 0; i < VOCAB; i++) logits[t][i] *= share;
    }
    linear_back(dx[0], g.lm_head[0], logits[0], PADDED, x[0], w.lm_head[0], VOCAB, N);
    for (long l = N_LAYER - 1; l >= 0; l--) {
        Kept *k = kept + l;
        const Layer *of = w.layers + l;
        Layer *to = g.layers + l;
        linear_back(dh[0], to->fc2[0], dx[0], N, k->hidden[0], of->fc2[0], N, 4 * N);
        for (long t = 0; t < rows; t++)
            for (long i = 0; i < 4 * N; i++) dh[t][i] = k->hidden[t][i] > 0.0 ? dh[t][i] : 0.0;
        linear_back(dn[0], to->fc1[0], dh[0], 4 * N, k->normed2[0], of->fc1[0], 4 * N, N);
        norm_back(1, dx, dn, k->normed2, k->scale2);
        linear_back(dn[0], to->wo[0], dx[0], N, k->mixed[0], of->wo[0], N, N);
        attention_back(k, dn);
        linear_back(dn[0], to->qkv[0], dqkv[0], 3 * N, k->normed1[0], of->qkv[0], 3 * N, N);
        norm_back(1, dx, dn, k->normed1, k->scale1);
    }
    norm_back(0, dn, dx, kept[0].x, embd_scale);
    memset(&g, 0, sizeof g.wte + sizeof g.wpe);
    for (long d = 0; d < BATCH; d++)
        for (long t = starts[d]; t < starts[d + 1]; t++)
            for (long i = 0; i < N; i++) {
                g.wte[tokens[t]][i] += dn[t][i];
                g.wpe[t - starts[d]][i] += dn[t][i];
            }
}

static void adam(void) {
    double root = sqrt(1.0 - pow(beta2, (double)(done + 1)));
    double rate = lr * (1.0 - (double)done / (double)num_steps) * root / (1.0 - pow(beta1, (double)(done + 1)));
    double e = eps * root, rest1 = 1.0 - beta1, rest2 = 1.0 - beta2;
    double *p = (double *)&w, *ms = (double *)&m, *vs = (double *)&v;
    const double *gs = (const double *)&g;
#pragma GCC ivdep
    for (long i = 0; i < COUNT; i++) {
        ms[i] = beta1 * ms[i] + rest1 * gs[i];
        vs[i] = beta2 * vs[i] + rest2 * (gs[i] * gs[i]);
        p[i] -= rate * ms[i] / (sqrt(vs[i]) + e);
    }
}

static double step(void) {
    next_batch();
    double loss = forward();
    back();
    adam();
    done++;
    return loss;
}

/* ------------------------------------------------------------------------------------------------ the program */

static void take(void *to, size_t size, size_t count, FILE *file) {
    if (fread(to, size, count, file) != count) exit(2);
}

static void read_file(const char *name) {
    FILE *file = fopen(name, "rb");
    double head[5];
    int64_t count;
    if (!file) exit(2);
    take(head, sizeof *head, 5, file);
    lr = head[0], beta1 = head[1], beta2 = head[2], eps = head[3], num_steps = (long)head[4];
    take(&w, sizeof(double), (size_t)COUNT, file);
    take(&count, sizeof count, 1, file);
    num_documents = count;
    lengths = calloc((size_t)count, sizeof *lengths);
    documents = calloc((size_t)count, sizeof *documents);
    if (!lengths || !documents) exit(2);
    for (long i = 0; i < num_documents; i++) {
        take(lengths + i, sizeof *lengths, 1, file);
        if (!(documents[i] = calloc((size_t)lengths[i], sizeof **documents))) exit(2);
        take(documents[i], sizeof **documents, (size_t)lengths[i], file);
    }
    fclose(file);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    read_file(words[1]);
    long steps = atol(words[3]);
    if (!strcmp(words[2], "losses")) {
        for (long i = 0; i < steps; i++) printf("%.17g\n", step());
        return 0;
    }
    double losses = 0.0; /* read, so that no step is left out */
    for (long i = 0; i < steps / 10 + 1; i++) losses += step();
    double begun = now();
    for (long i = 0; i < steps; i++) losses += step();
    printf("%.17g %g\n", (now() - begun) / (double)steps, losses);
    return 0;
}
