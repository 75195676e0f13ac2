// Every C kernel, in the order of the book.  The arguments are the outputs, then the inputs in the order of the Python
// function, then the sizes in the order of the shapes.  Arrays are row-major float32; NULL is Python's None.

// The formats of stored values.  INT8 and INT4 are stored in the tiles of tinyscout/reference/quantize.py.
enum { F32 = 0, BF16 = 1, F16 = 2, INT8 = 3, INT4 = 4 };

// A matrix (I, O), or E of them, as a checkpoint stores it: nothing is converted in advance.
typedef struct {
    const void *values, *scales;                     // scales: NULL if not quantized
    int kind, scale_kind, group;                     // group: inputs that share a scale
    ptrdiff_t expert_stride, in_stride, out_stride;  // if not quantized: elements to the next expert, input, output
} matrix;

// Keys or values (B, S, K, d) as a cache stores them.  INT8 and INT4 are rows of QuantizedRows.
typedef struct {
    const void *values, *scales;
    int kind, scale_kind, group;  // group: channels that share a scale
    ptrdiff_t batch_stride;       // positions from one sequence to the next
} kv_view;

int cpu_level(void);         // cpu_level.c: which build of these kernels the processor can run
int set_threads(int count);  // threads.c: set the number of threads  ->  the previous number

// memory.c
int allocation_failed(void);     // true if an allocation of this thread failed since the last call
int fail_allocation(int count);  // for tests: the count-th allocation from now on fails
int live_allocations(void);      // for tests: blocks that are not released yet

// norm.c
void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D);
void layer_norm(float *out, const float *x, const float *weight, const float *bias, float eps, int N, int D);

// norm_backward.c
void rms_norm_backward(float *out_x, float *out_weight, const float *dy, const float *x, const float *weight, float eps,
                       int N, int D);
void layer_norm_backward(float *out_x, float *out_weight, float *out_bias, const float *dy, const float *x,
                         const float *weight, const float *bias, float eps, int N, int D);

// rope.c
void apply_rope(float *out, const float *x, const float *cos, const float *sin, int B, int T, int H, int d);

// softmax.c
void softmax(float *out, const float *x, int N, int S);
void softmax_backward(float *out, const float *dy, const float *x, int N, int S);

// attention.c, after attention_1.c
void grouped_query_attention(float *out, const float *q, const kv_view *k, const kv_view *v, int causal, int chunk,
                             int64_t kv_start, int B, int T, int S, int H, int K, int d);
void grouped_query_attention_1(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                               int64_t kv_start, int B, int T, int S, int H, int K, int d);

// attention_backward.c
void grouped_query_attention_backward(float *out_q, float *out_k, float *out_v, const float *dy, const float *q,
                                      const float *k, const float *v, int causal, int chunk, int64_t kv_start, int B,
                                      int T, int S, int H, int K, int d);

// activation.c
void sigmoid(float *out, const float *x, int N, int D);
void sigmoid_backward(float *out, const float *dy, const float *x, int N, int D);
void swiglu(float *out, const float *gate, const float *up, int N, int F);
void swiglu_backward(float *out_gate, float *out_up, const float *dy, const float *gate, const float *up, int N, int F);
void gelu(float *out, const float *x, int N, int D);
void gelu_backward(float *out, const float *dy, const float *x, int N, int D);

// embed.c
void embed(float *out, const int64_t *tokens, const matrix *embedding, int N, int D);

// linear.c, after linear_1.c, linear_2.c and linear_3.c
void linear(float *out, const float *x, const matrix *w, const float *bias, int N, int I, int O);
void linear_1(float *out, const float *x, const float *w, const float *bias, int N, int I, int O);
void linear_2(float *out, const float *x, const float *w, const float *bias, int N, int I, int O);
void linear_3(float *out, const float *x, const float *w, const float *bias, int N, int I, int O);

// linear_backward.c
void linear_backward(float *out_x, float *out_w, float *out_bias, const float *dy, const float *x, const matrix *w,
                     const float *bias, int N, int I, int O);
void embed_backward(float *out, const float *dy, const int64_t *tokens, const matrix *embedding, int N, int D, int V);

// router.c
void router(int64_t *out_expert, float *out_gate, const float *x, const matrix *w_router, int top_k, int N, int D,
            int E);
void router_backward(float *out_x, float *out_w_router, const float *d_gate, const float *x, const matrix *w_router,
                     int top_k, int N, int D, int E);
void load_balance(double *out, const float *x, const matrix *w_router, int top_k, int N, int D, int E);
void load_balance_backward(float *out_x, float *out_w_router, double dy, const float *x, const matrix *w_router,
                           int top_k, int N, int D, int E);

// moe.c
void experts(float *out, const float *x, const int64_t *expert, const float *gate, const matrix *w_gate,
             const matrix *w_up, const matrix *w_down, int N, int C, int D, int E, int F);

// moe_backward.c
void experts_backward(float *out_x, float *out_gate, float *out_w_gate, float *out_w_up, float *out_w_down,
                      const float *dy, const float *x, const int64_t *expert, const float *gate, const matrix *w_gate,
                      const matrix *w_up, const matrix *w_down, int N, int C, int D, int E, int F);

// patches.c
void patchify(float *out, const float *tiles, int patch, int B, int C, int R, int S);
void pixel_shuffle(float *out, const float *x, int side, int B, int R, int D);

// fusion.c
void fuse(float *out, const float *x, const uint8_t *mask, const float *features, int T, int D);

// sampling.c
void top_k(float *out, const float *logits, int k, int N, int V);
void top_p(float *out, const float *probabilities, double p, int N, int V);
void sample(int *out, const float *logits, double uniform, double temperature, int k, double p, int V);

// loss.c
void cross_entropy(double *out, const float *logits, const int64_t *targets, int N, int V);
void cross_entropy_backward(float *out, double dy, const float *logits, const int64_t *targets, int N, int V);
void soft_cross_entropy(double *out, const float *logits, const float *teacher, int N, int V);
void soft_cross_entropy_backward(float *out, double dy, const float *logits, const float *teacher, int N, int V);

// adamw.c
void adamw_step(float *out_w, float *out_m, float *out_v, const float *w, const float *g, const float *m,
                const float *v, double step, double lr, double beta1, double beta2, double eps, double decay,
                int64_t N);

// muon.c
void muon_step(float *out_w, float *out_m, const float *w, const float *g, const float *m, double lr, double momentum,
               double decay, int N, int I, int O);

// decode.c
typedef struct {
    const float *attention_norm, *feed_forward_norm;
    matrix w_q, w_k, w_v, w_o;
    // The shared expert, or the feed-forward network of a layer without experts.
    matrix dense_gate, dense_up, dense_down;
    matrix w_router, w_gate, w_up, w_down;  // of the E experts
    int E, F, rope, chunk;                  // E: 0 in a layer without experts; chunk: 0 in a global layer
    kv_view keys, values;                   // the cache, with room for one more token
    int64_t kv_start;                       // position of its slot 0
} layer;

typedef struct {
    layer *layers;
    int L, D, H, K, d, C, qk_norm;  // C: experts that a token chooses
    float eps;
    float *scratch;  // decode_scratch_floats(...) elements
} decoder;

int64_t decode_scratch_floats(const decoder *model);
void decode(float *x, const decoder *model, int first_layer, int end_layer, int64_t position, const float *cos,
            const float *sin, float temperature);
