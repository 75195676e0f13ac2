// Every C kernel, in the order of the walkthrough.  First out, then the inputs in the order of the Python
// function, then the sizes in the order of the shapes.  Arrays are row-major float32; NULL where Python has None.

// The forms of a stored number.  INT8 and INT4 come in the tiles of tinyscout/reference/quantize.py.
enum { F32 = 0, BF16 = 1, F16 = 2, INT8 = 3, INT4 = 4 };

// A matrix (I, O), or E of them, as a checkpoint holds it: nothing is converted before it is used.
typedef struct {
    const void *values, *scales;        // scales: NULL where the numbers are plain
    int kind, scale_kind, group;        // group: inputs that share a scale
    ptrdiff_t expert, in, out;          // plain numbers: how far it is to the next expert, input and output
} matrix;

int level(void);                        // which build of these kernels the processor can run: level.c

// norm.c
void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D);

// rope.c
void apply_rope(float *out, const float *x, const float *cos, const float *sin, int B, int T, int H, int d);

// activation.c
void swiglu(float *out, const float *gate, const float *up, int N, int F);

// linear.c
void linear(float *out, const float *x, const float *w, const float *bias, int N, int I, int O);
