// Attention, equation (gqa), with an online softmax (online_softmax.h): the T x S matrix of scores is never in memory.
#include "threads.h"

#include "attention_shape.h"
#include "online_softmax.h"

typedef struct {
    float *out;
    const float *q;
    const kv_view *k, *v;
} attention_arrays;

static head_rows rows_of_head(const kv_view *k, const attention_shape *a, int b, int head) {
    return (head_rows) {k, ((ptrdiff_t) b * k->batch_stride * a->K + head) * a->d, (ptrdiff_t) a->K * a->d};
}

// The queries t to t + n - 1 of sequence b, for all heads that read key head `head`.  They all start at the same key.
static void attend_query_block(const attention_arrays *x, const attention_shape *a, attention_state *st, int b, int t,
                               int n, int head) {
    int G = group_size(a), rows = n * G, d = a->d;
    float root = 1.0f / sqrtf((float) d);
    for (int i = 0; i < rows; i++) {
        const float *query = x->q + query_offset(a, b, t, head, i);
        for (int c = 0; c < d; c++) st->q[(size_t) i * d + c] = query[c] * root;
        st->visible[i] = end_visible(a, t + i / G);
    }
    attention_state_reset(st, rows);
    attend_keys(st, rows_of_head(x->k, a, b, head), rows_of_head(x->v, a, b, head), first_visible(a, t),
                st->visible[rows - 1]);
    for (int i = 0; i < rows; i++) {
        float *y = x->out + query_offset(a, b, t, head, i);
        for (int c = 0; c < d; c++) y[c] = st->O[(size_t) i * st->O_stride + c] / st->l[i];
    }
}

// How the T queries are cut into blocks of up to `size`.  No block crosses the end of a chunk, so all queries of a
// block start at the same key.  The first chunk may be incomplete: it has `lead` queries in `lead_blocks` blocks.
typedef struct {
    int T, chunk, size, lead, lead_blocks, blocks_per_chunk, count;
} query_blocks;

static query_blocks cut_into_blocks(const attention_shape *a, int size) {
    query_blocks p = {.T = a->T, .chunk = a->chunk, .size = size, .lead = a->T};
    if (a->causal && a->chunk) p.lead = min_int(a->T, (int) (a->chunk - query_position(a, 0) % a->chunk));
    p.lead_blocks = (p.lead + size - 1) / size;
    p.blocks_per_chunk = a->chunk ? (a->chunk + size - 1) / size : 1;
    int chunks = p.lead < a->T ? (a->T - p.lead + a->chunk - 1) / a->chunk : 0;
    p.count = p.lead_blocks + chunks * p.blocks_per_chunk;
    return p;
}

// Block i  ->  its first query and its number of queries: 0 if the last chunk ends before it
static int block_of_queries(const query_blocks *p, int i, int *count) {
    int begin, end, n = i - p->lead_blocks;
    if (n < 0) begin = i * p->size, end = p->lead;
    else {
        int chunk_begin = p->lead + n / p->blocks_per_chunk * p->chunk;
        begin = chunk_begin + n % p->blocks_per_chunk * p->size, end = chunk_begin + p->chunk;
    }
    *count = min_int(min_int(end, p->T) - begin, p->size);
    return begin;
}

// q (B, T, H, d), k and v (B, S, K, d) in any format of a cache  ->  out (B, T, H, d)
//
// The keys are at S positions from `kv_start` on, the queries at the last T of them.  chunk: 0 for none.
void grouped_query_attention(float *out, const float *q, const kv_view *k, const kv_view *v, int causal, int chunk,
                             int64_t kv_start, int B, int T, int S, int H, int K, int d) {
    attention_shape a = {causal, chunk, kv_start, B, T, S, H, K, d};
    attention_arrays arrays = {out, q, k, v};
    int G = group_size(&a), size = QUERY_ROWS / G > 1 ? QUERY_ROWS / G : 1;
    query_blocks blocks = cut_into_blocks(&a, size);
    size_t bytes = attention_state_bytes(size * G, d);
    arena memory = allocate(bytes * max_threads());
    if (!memory.base) return;
    claimed_cpus cpus = {0};
    #pragma omp parallel if ((size_t) B * T * S * H * d > PARALLEL_MIN)
    {
        move_to_free_core(&cpus);
        arena part = arena_part(&memory, bytes, thread_index());
        attention_state st = attention_state_in(&part, size * G, d);
        #pragma omp for schedule(dynamic) collapse(3)
        for (int b = 0; b < B; b++)
            for (int i = blocks.count - 1; i >= 0; i--)  // longest first: the short ones fill the gaps
                for (int head = 0; head < K; head++) {
                    int n, t = block_of_queries(&blocks, i, &n);
                    if (n > 0) attend_query_block(&arrays, &a, &st, b, t, n, head);
                }
    }
    release(&memory);
}
