// Every C kernel, in the order of the walkthrough.  First out, then the inputs in the order of the Python
// function, then the sizes in the order of the shapes.  Arrays are row-major float32; NULL where Python has None.

// norm.c
void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D);

// rope.c
void apply_rope(float *out, const float *x, const float *cos, const float *sin, int B, int T, int H, int d);

// activation.c
void swiglu(float *out, const float *gate, const float *up, int N, int F);

// linear.c
void linear(float *out, const float *x, const float *w, const float *bias, int N, int I, int O);
